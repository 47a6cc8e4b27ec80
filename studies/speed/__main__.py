"""``python -m studies.speed``: every figure, beside the one asked for."""

import argparse
import sys

from rich.console import Console

from ekfac_ref.extras import missing


def main() -> int:
    """Print all tables; 1 where the other libraries are missing."""
    parser = argparse.ArgumentParser(prog="python -m studies.speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each library")
    runs: int = parser.parse_args().runs
    if what := missing("bench"):
        print(f"{what} missing: install with pip install 'ekfac-ref[bench]'", file=sys.stderr)
        return 1
    from studies.speed import memory, size, speed

    console = Console(highlight=False)
    speed.report(console, runs)
    memory.report(console)
    size.report(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
