"""The command: check what is installed, then compare the optimizers on both tasks."""

import argparse
import sys
from pathlib import Path

from ekfac_ref.extras import missing


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ekfac_ref.train", description=__doc__)
    folder = "folder of pictures, tables and numbers (default: ./train)"
    parser.add_argument("--out", type=Path, default=Path("train"), help=folder)
    out = parser.parse_args(arguments).out
    if what := missing("demo"):
        print(f"{what} missing: install with pip install 'ekfac-ref[demo]'", file=sys.stderr)
        return 1

    # Only now: these import what the extra installs.
    from ekfac_ref.train.phases import Budget
    from ekfac_ref.train.pool import all_cores
    from ekfac_ref.train.show import compare
    from ekfac_ref.train.tasks import TASKS

    with all_cores() as run_all:
        compare(out, TASKS, Budget(), run_all)
    return 0


if __name__ == "__main__":
    sys.exit(main())
