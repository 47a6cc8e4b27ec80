"""How long the core is, docstrings included."""

from pathlib import Path

from rich.console import Console

import ekfac_ref

CORE = ("gradients", "taps", "linear_form", "fisher", "kfac", "ekfac", "operators")
ASKED = 700


def report(console: Console) -> None:
    """Print the lines of each file and their sum, with the figure asked for."""
    folder = Path(ekfac_ref.__file__).parent
    lines = {name: len((folder / f"{name}.py").read_text().splitlines()) for name in CORE}
    each = ", ".join(f"{name} {count}" for name, count in lines.items())
    console.print(f"Core: {sum(lines.values())} lines (asked: under {ASKED}): {each}")
