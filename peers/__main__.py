"""``python -m peers``: every library in its own environment, the findings, and the board.

Exits with 1 where a finding's script no longer shows it: it is repaired, or does not run.
"""

import argparse
import datetime
import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from peers.catalogue import FINDINGS
from peers.environments import ROOT, checked, installed, script
from peers.libraries import LIBRARIES, Library
from peers.page import page
from peers.picture import one_page, svg

DOCS = ROOT / "docs"
KEPT = ROOT / "peers" / "results.json"
AT_ONCE = 2  # processes, as cores
DEVIATION = 1e-3  # relative; all that were found are larger by far


def main() -> None:
    """Run what is asked for, write the pages."""
    parser = argparse.ArgumentParser(prog="python -m peers", description=__doc__)
    parser.add_argument("--profile", default="quick", help="of ekfac-ref check")
    parser.add_argument("--seed", type=int, default=0, help="of the problems")
    parser.add_argument("--only", action="append", help="this library, and others as they were")
    parser.add_argument("--pages", action="store_true", help="write the pages of the last run")
    options = parser.parse_args()
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if not options.pages:
        kept = run(kept, options)
        KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
        kept = json.loads(KEPT.read_text())  # in the order in which --pages finds it
    write(kept)
    gone = [one.id for one in FINDINGS if not is_shown(kept["told"].get(one.id, "not run"))]
    if gone:
        sys.exit(f"no longer shown: {', '.join(gone)}")


def run(kept: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """What all libraries answered, and what the findings printed."""
    started = time.monotonic()
    reports, told = dict(kept.get("reports", {})), dict(kept.get("told", {}))
    chosen = [one for one in LIBRARIES if not options.only or one.name in options.only]
    left_out: dict[str, str] = dict(kept.get("left_out", {}))

    def prepare(library: Library) -> None:
        left_out.pop(library.name, None)
        if reason := library.left_out or installed(library):
            left_out[library.name] = reason
            return
        own = [one for one in FINDINGS if one.library == library.name]
        told.update({one.id: script(library, one.script) for one in own})
        reports[library.name] = {}

    def ask(library: Library, subject: str) -> None:
        report = checked(library, subject, options.profile, options.seed)
        reports[library.name][subject] = report

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(prepare, chosen))
        there = [one for one in chosen if one.name not in left_out]
        # The last one compiles every network and takes longest: no process is to wait for it.
        asked = [(one, subject) for one in reversed(there) for subject in one.subjects]
        for answer in [pool.submit(ask, *one) for one in asked]:
            answer.result()
    minutes = round((time.monotonic() - started) / 60)
    date = datetime.date.today().isoformat()
    return {
        "date": date,
        "minutes": minutes,
        "reports": reports,
        "told": told,
        "left_out": left_out,
    }


def is_shown(told: str) -> bool:
    """Whether a script's last line has two numbers that differ."""
    numbers = re.fullmatch(r"expected (\S+), got (\S+)", told)
    if not numbers:
        return False
    expected, got = float(numbers[1]), float(numbers[2])
    return not abs(expected - got) <= DEVIATION * abs(expected)  # NaN is one that differs


def write(kept: dict[str, Any]) -> None:
    """``docs/peers.md``, its picture, and the page for a browser."""
    reports, told = kept["reports"], kept["told"]
    asked = sum(r["asked"] for subjects in reports.values() for r in subjects.values())
    took = f" in {kept['minutes']} minutes" if kept["minutes"] else ", library by library"
    constraints = (ROOT / "constraints.txt").read_text()
    torch = next(line for line in constraints.splitlines() if line.startswith("torch=="))
    head = {
        "date": f"{kept['date']}, {asked:,} problems asked{took}",
        "torch": torch.partition("==")[2],
        "left_out": kept["left_out"],
    }
    (DOCS / "peers.md").write_text(page(reports, told, head))
    (DOCS / "peers.svg").write_text(svg(reports))
    (DOCS / "peers.html").write_text(one_page(reports, told, str(head["date"])))


if __name__ == "__main__":
    main()
