"""The reports of a run that go into files: JSON, JUnit XML, a page."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

from ekfac_ref.commands.subject import Unbroken, refuse
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.offline.judge import OfFiles
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.process.apart import Apart
from ekfac_ref.conformance.reports import as_json, terminal
from ekfac_ref.conformance.reports.as_junit import as_junit
from ekfac_ref.conformance.reports.furthest import Furthest, furthest
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.raised import message
from ekfac_ref.conformance.run.time_limit import at_most

OFTEN = 1.0  # seconds from one writing of the files to the next, while the run goes on


def one_file(options: argparse.Namespace) -> str:
    """Which two of the options name one file, "--report and --json"; "" where none do."""
    given = [(name, getattr(options, name)) for name in ("report", "json", "junit")]
    for (one, path), (other, there) in combinations(given, 2):
        if path and there and _same(path, there):
            return f"--{one} and --{other}"
    return ""


def _same(one: Path, other: Path) -> bool:
    """Whether two names are one file, by links, too."""
    with contextlib.suppress(OSError):
        if one.samefile(other):
            return True
    return one.resolve() == other.resolve()


class ReportFiles:
    """The reports in files; one that cannot be written is told, and changes no verdict.

    ``rerun`` is the command that makes the same run again.
    """

    def __init__(self, options: argparse.Namespace, rerun: str) -> None:
        self._options, self._rerun, self._last = options, rerun, 0.0

    def now_and_then(self, report: Report) -> None:
        """What is known so far, for whoever finds it if this process is killed."""
        if time.monotonic() - self._last > OFTEN:
            self.write(report)

    def write(
        self, report: Report, examiner: Here | Apart | OfFiles | None = None, last: bool = False
    ) -> None:
        """All files; with an examiner, or if it is the last time, for good."""
        options, last = self._options, last or examiner is not None

        def as_text() -> str:
            plain = as_json.as_dict(report, options.subject, self._rerun)
            return json.dumps(plain, indent=2) + "\n"

        def as_page() -> str:
            from ekfac_ref.conformance.reports.html import page  # imports what the extra installs

            return page(report, partial(_look, examiner), options.subject, self._rerun)

        def as_tests() -> str:
            return as_junit(report, self._rerun)

        writers = (options.json, as_text), (options.junit, as_tests), (options.report, as_page)
        for path, text in writers:
            if path and (last or path.is_file() or not path.exists()):  # no device twice
                problem = self._written(path, text)
                if last and problem:
                    refuse(problem, 0)
                elif examiner:
                    shown = terminal.printable(str(path))
                    print(f"Written: {shown}", file=Unbroken(sys.stderr))
        self._last = time.monotonic()

    def _written(self, path: Path, text: Callable[[], str]) -> str:
        """What has come between; "" where it is written."""
        try:
            path.write_text(text(), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            return f"{path} cannot be written ({error})"
        return ""


def _look(examiner: Here | Apart | OfFiles | None, problem: Written, lane: Lane) -> Furthest | str:
    """The layer that is furthest off, for a picture."""
    if isinstance(examiner, Apart):
        return examiner.look(problem, lane)
    if isinstance(examiner, OfFiles):
        return _look(examiner.here, problem, lane)
    if examiner is None:
        return "the run is not at its end."
    try:
        with at_most(examiner.seconds), contextlib.redirect_stdout(None):
            return furthest(examiner.subject, problem, lane)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a subject may raise
        return f"asked once more, it raised {message(error)}"
