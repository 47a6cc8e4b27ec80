"""The command: check what is installed, then compare the optimizers on both tasks."""

import argparse
import sys
from pathlib import Path

from ekfac_ref.extras import missing


def main(arguments: list[str] | None = None) -> int:
    """Run the comparison; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.training", description=__doc__)
    folder = "folder of pictures, tables and numbers (default: ./train)"
    parser.add_argument("--out", type=Path, default=Path("train"), help=folder)
    out = parser.parse_args(arguments).out
    if what := missing("demo"):
        print(f"{what} missing: install with pip install 'ekfac-ref[demo]'", file=sys.stderr)
        return 1

    # Only now: these import what the extra installs.
    from studies.training.phases import Budget
    from studies.training.pool import all_cores
    from studies.training.show import compare
    from studies.training.tasks import TASKS

    with all_cores() as run_all:
        compare(out, TASKS, Budget(), run_all)
    return 0


if __name__ == "__main__":
    sys.exit(main())
