"""The order of the demo: train, measure, draw, and end with the notebook."""

import argparse
from pathlib import Path

import torch

from studies.extras import require


def main() -> None:
    """Run the demo as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m studies.demo", description=__doc__)
    folder = "folder of the figure (default: ./demo)"
    parser.add_argument("--out", type=Path, default=Path("demo"), help=folder)
    out = parser.parse_args().out
    require("demo")

    # Only now: show imports what the extra installs.
    from studies.demo.show import notebook, trained_layers

    torch.set_num_threads(1)  # the matrices are small: more threads would wait for one another
    trained_layers(out / "layers.png")
    notebook()


if __name__ == "__main__":
    main()
