"""``python -m peers``: every library in its own environment, the findings, and the board.

Exits with 1 where a finding's script no longer shows it: it is repaired, or does not run.
"""

import argparse
import sys

from peers.catalogue import FINDINGS, NUMBERS
from peers.environments import ROOT
from peers.libraries import LIBRARIES
from peers.page import page
from peers.picture import one_page, svg
from peers.results import Results, read, renewed

DOCS = ROOT / "docs"
DEVIATION = 1e-3  # relative; all that were found are larger by far


def main() -> None:
    """Run what is asked for, write the pages."""
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    parser.add_argument("--profile", default="verdicts", help="of ekfac-ref check")
    parser.add_argument("--seed", type=int, default=0, help="of the problems")
    parser.add_argument("--only", action="append", help="this library, and others as they were")
    parser.add_argument("--pages", action="store_true", help="write the pages of the last run")
    options = parser.parse_args()
    results = read()
    if not options.pages:
        chosen = [one for one in LIBRARIES if not options.only or one.name in options.only]
        results = renewed(results, chosen, options.profile, options.seed)
    write(results)
    gone = [one.id for one in FINDINGS if not is_shown(results["told"].get(one.id, "not run"))]
    if gone:
        sys.exit(f"no longer shown: {', '.join(gone)}")


def is_shown(told: str) -> bool:
    """Whether a script's last line has two numbers that differ."""
    numbers = NUMBERS.fullmatch(told)
    if not numbers:
        return False
    expected, got = float(numbers[1]), float(numbers[2])
    return not abs(expected - got) <= DEVIATION * abs(expected)  # NaN is one that differs


def write(results: Results) -> None:
    """``docs/peers.md``, its picture, and the page for a browser."""
    reports, told = results["reports"], results["told"]
    all_reports = [report for subjects in reports.values() for report in subjects.values()]
    dates = sorted({report["date"] for report in all_reports})
    asked = sum(report["asked"] for report in all_reports)
    took = f" in {results['minutes']} minutes" if results["minutes"] else ", library by library"
    constraints = (ROOT / "constraints.txt").read_text()
    torch = next(line for line in constraints.splitlines() if line.startswith("torch=="))
    head = {
        "date": f"{' to '.join(sorted({dates[0], dates[-1]}))}, {asked:,} problems asked{took}",
        "torch": torch.partition("==")[2],
        "left_out": results["left_out"],
    }
    (DOCS / "peers.md").write_text(page(reports, told, head))
    (DOCS / "peers.svg").write_text(svg(reports))
    (DOCS / "peers.html").write_text(one_page(reports, told, str(head["date"])))


if __name__ == "__main__":
    main()
