"""What a run found, as it is read from ``own_model.toml``."""

from pathlib import Path
from typing import Any

from studies import toml
from studies.own_model.measure import Noticed

PINNED = Path(__file__).parent / "own_model.toml"


def from_toml(text: str) -> dict[str, dict[str, Noticed]]:
    """{network: {mutant: what came of it}}."""
    return {
        name: {mutant: _noticed(mutant, row) for mutant, row in table.items()}
        for name, table in toml.loads(text).items()
        if isinstance(table, dict)
    }


def _noticed(mutant: str, row: dict[str, Any]) -> Noticed:
    if "raised" in row:
        return Noticed(mutant, 0.0, raised=row["raised"])
    off, seen = row["layers"]
    return Noticed(mutant, row["change"], (*row["shown"],), (*row["opaque"],), (off, seen))


def told(name: str, found: dict[str, Noticed]) -> str:
    """How many of the mistakes that show on a network are noticed, as a row of a table."""
    wrong = [one for one in found.values() if one.change > 0.01]
    shown, opaque = (sum(bool(getattr(one, way)) for one in wrong) for way in ("shown", "opaque"))
    layers, seen = (sum(one.layers[i] for one in wrong) for i in range(2))
    return f"| {name} | {len(wrong)} | {shown} | {opaque} | {seen} of {layers} |"
