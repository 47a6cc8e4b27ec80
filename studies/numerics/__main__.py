"""``python -m studies.numerics``: the suite and correct subjects under every numerics."""

import argparse
import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path

from rich.console import Console

from studies.looks import progress
from studies.numerics.alarms import Asked, ask
from studies.numerics.numerics import NUMERICS
from studies.numerics.page import PAGE, Row, page
from studies.numerics.suite import Suite, run_suite

PARTS = 2  # processes for the questions of one numerics, so that two cores have as much to do


def main() -> None:
    """Measure, write the page, and exit with 1 if a test failed or a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m studies.numerics", description=__doc__)
    parser.add_argument("--problems", type=int, default=85, help="per subject and process")
    parser.add_argument("--seed", type=int, default=1000, help="of the first set of problems")
    parser.add_argument("--no-suite", action="store_true", help="ask the correct subjects alone")
    parser.add_argument("--page", type=Path, default=PAGE, help="gets the tables")
    options = parser.parse_args()
    seeds, started = count(options.seed), time.monotonic()
    with progress(Console(stderr=True)) as bars, ThreadPoolExecutor(2) as pool:

        def watched(futures: list[Future[Asked]]) -> list[Asked]:
            bar = bars.add_task("correct subjects", total=len(futures))
            for future in futures:
                future.add_done_callback(lambda _: bars.advance(bar))
            return [future.result() for future in futures]

        suites: list[Suite | None] = [
            run_suite(numerics, order) if numerics.suite and not options.no_suite else None
            for order, numerics in enumerate(bars.track(NUMERICS, description="the suite"))
        ]
        asked = watched(
            [
                pool.submit(ask, numerics, next(seeds), options.problems)
                for numerics in NUMERICS
                for _ in range(PARTS)
            ]
        )
    parts = [asked[i : i + PARTS] for i in range(0, len(asked), PARTS)]
    rows = [Row(*row) for row in zip(NUMERICS, suites, parts, strict=True)]
    options.page.write_text(page(rows, (time.monotonic() - started) / 60))
    print(options.page.read_text())
    wrong = any((r.suite and r.suite.failed) or any(a.broken for a in r.asked) for r in rows)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
