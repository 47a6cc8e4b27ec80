"""Print the speed of EKFAC beside that of two other libraries, and the memory that it needs."""

import argparse

from rich.console import Console

from studies.extras import require


def main() -> None:
    """Print all tables, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m studies.speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each library")
    runs: int = parser.parse_args().runs
    require("bench")

    # Only now: speed imports what the extra installs.
    from studies.speed import memory, speed

    console = Console(highlight=False)
    speed.report(console, runs)
    memory.report(console)


if __name__ == "__main__":
    main()
