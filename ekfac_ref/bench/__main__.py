"""``python -m ekfac_ref.bench``: every figure, beside the one asked for."""

import argparse
import sys
from importlib.util import find_spec

from rich.console import Console

EXTRA = ("curvlinops", "nngeometry")


def main() -> int:
    """Print all tables; 1 where the other libraries are missing."""
    parser = argparse.ArgumentParser(prog="python -m ekfac_ref.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each library")
    runs: int = parser.parse_args().runs
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        print(
            f"{' and '.join(missing)} missing: install with pip install 'ekfac-ref[bench]'",
            file=sys.stderr,
        )
        return 1
    from ekfac_ref.bench import memory, size, speed

    console = Console(highlight=False)
    speed.report(console, runs)
    memory.report(console)
    size.report(console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
