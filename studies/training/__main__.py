"""The command: check what is installed, then compare the optimizers on both tasks."""

import argparse
from pathlib import Path

from studies.extras import require


def main() -> None:
    """Run the comparison as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m studies.training", description=__doc__)
    folder = "folder of the picture, tables and numbers (default: ./train)"
    parser.add_argument("--out", type=Path, default=Path("train"), help=folder)
    out = parser.parse_args().out
    require("demo")

    # Only now: these import what the extra installs.
    from studies.training.phases import Budget
    from studies.training.pool import all_cores
    from studies.training.show import compare
    from studies.training.tasks import TASKS

    with all_cores() as run_all:
        compare(out, TASKS, Budget(), run_all)


if __name__ == "__main__":
    main()
