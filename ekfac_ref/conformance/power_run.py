"""``python -m ekfac_ref.conformance.power_run``: measure, pin the result, write the page."""

import argparse
import datetime
import os
from pathlib import Path

from rich.progress import Progress

from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.power import Power, measure, pin
from ekfac_ref.conformance.power_page import page


def main() -> None:
    """Every mutant on every set of problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="sets of problems")
    parser.add_argument("--problems", type=int, default=50, help="in each set")
    parser.add_argument("--page", type=Path, default=Path("docs/mutants.md"))
    options = parser.parse_args()
    today = datetime.date.today().isoformat()
    workers = os.cpu_count() or 1
    with Progress() as progress:
        task = progress.add_task("mutants", total=len(CATALOGUE) * options.seeds)
        for step in measure(range(options.seeds), options.problems, today, workers):
            if isinstance(step, Power):
                pin(step)
                options.page.write_text(page(step))
                survivors = [m.name for m in CATALOGUE if not m.proof and not step.killed[m.name]]
                progress.console.print(f"survivors: {survivors or 'none'}")
            progress.advance(task)


if __name__ == "__main__":
    main()
