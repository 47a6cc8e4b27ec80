"""The order of the demo: train, measure, draw, and end with the notebook."""

import argparse
import sys
from pathlib import Path

import torch

from ekfac_ref.extras import missing


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.demo", description=__doc__)
    folder = "folder of the figure (default: ./demo)"
    parser.add_argument("--out", type=Path, default=Path("demo"), help=folder)
    out = parser.parse_args(arguments).out
    if what := missing("demo"):
        print(f"{what} missing: install with pip install 'ekfac-ref[demo]'", file=sys.stderr)
        return 1

    # Only now: show imports what the extra installs.
    from studies.demo.show import digits, notebook

    torch.set_num_threads(1)  # the matrices are small: more threads would wait for one another
    digits(out / "layers.png")
    notebook()
    return 0


if __name__ == "__main__":
    sys.exit(main())
