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
