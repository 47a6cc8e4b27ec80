"""Print the speed of KFAC and EKFAC beside that of other libraries, and the memory they need."""

import argparse

from rich.console import Console

from studies.extras import require

PASSES = 5  # timed runs of what is told in passes


def main() -> None:
    """Print all tables and write docs/speed.md, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m studies.speed", description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="timed runs of each library")
    options = parser.parse_args()
    require("bench")

    # Only now: speed imports what the extra installs.
    from studies.speed import curves, memory, page, passes, speed

    console = Console(highlight=False)
    measured = speed.report(console, options.runs)
    in_passes = passes.report(console, PASSES)
    peaks = memory.report(console)
    points = curves.report(console, page.PICTURE)
    page.PAGE.write_text(page.page(measured, in_passes, peaks, points, options.runs))
    console.print(f"The page: {page.PAGE}")


if __name__ == "__main__":
    main()
