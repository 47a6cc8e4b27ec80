"""Print the speed of KFAC and EKFAC beside that of other libraries, and the memory they need."""

import argparse
from pathlib import Path

from rich.console import Console

from studies.extras import require


def main() -> None:
    """Print all tables, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m studies.speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each library")
    picture = "where to draw time and memory against sizes (default: ./bench/speed.png)"
    parser.add_argument("--picture", type=Path, default=Path("bench/speed.png"), help=picture)
    options = parser.parse_args()
    require("bench")

    # Only now: speed imports what the extra installs.
    from studies.speed import curves, memory, speed

    console = Console(highlight=False)
    speed.report(console, options.runs)
    memory.report(console)
    curves.report(console, options.picture)


if __name__ == "__main__":
    main()
