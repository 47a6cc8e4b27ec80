"""``ekfac-ref check``: all laws, asked of a subject, and three reports."""

import argparse
import contextlib
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from ekfac_ref.commands.subject import Unbroken, loaded, refuse
from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.process.apart import Apart
from ekfac_ref.conformance.reports import as_json, terminal
from ekfac_ref.conformance.reports.furthest import Furthest, furthest
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import profile_named
from ekfac_ref.conformance.run.raised import message
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.run.time_limit import at_most
from ekfac_ref.errors import ProblemError
from ekfac_ref.extras import missing

OFTEN = 1.0  # seconds from one writing of the files to the next, while the run goes on


def check_command(options: argparse.Namespace) -> int:
    """Run it with a bar meanwhile, print the report, write the files; the exit code.

    Whatever the subject does, it does to a process of its own, unless it is to be asked here.
    """
    if options.report and (what := missing("report")):
        return refuse(f"--report needs {what}: install with pip install 'ekfac-ref[report]'", 2)
    if options.report and options.json and _same(options.report, options.json):
        return refuse("--report and --json are one file; give each a file of its own", 2)
    with contextlib.ExitStack() as stack:
        try:
            examiner: Here | Apart
            if options.in_process:
                subject, printed = loaded(options.subject)
                examiner = Here(subject, options.seconds, options.subject)
                examiner.printed = printed
            else:
                examiner = stack.enter_context(
                    contextlib.closing(Apart(options.subject, options.seconds))
                )
            return _put_on_trial(examiner, options)
        except ProblemError as error:
            return _refused(str(error), options)


def _put_on_trial(examiner: Here | Apart, options: argparse.Namespace) -> int:
    profile = profile_named(options.profile)
    laws = [LAWS[name] for name in LAWS if name in (options.law or LAWS)]
    files, (bar, tick) = _Files(options), _progress(profile.problems)

    def ticks(what: str) -> None:
        tick(what)
        files.now_and_then(run.so_far())

    known = options.known[1] if options.known else KnownDeviations()
    run = Run(examiner, profile, options.seed, laws, known, ticks)
    files.write(run.so_far())  # what is there of an earlier run is not this one's
    with _hearing_signals():
        with bar:
            report = run.report()
        report = run.diagnosed(report)
    unheard: OSError | None = None
    try:
        terminal.print_report(terminal.Terminal(), report, options.subject, command_line(options))
        sys.stdout.flush()
    except OSError as error:  # nobody reads on, or there is no room
        unheard = error
    files.write(report, examiner)
    if unheard:
        raise unheard
    return report.exit_code


def _refused(what: str, options: argparse.Namespace) -> int:
    """One line on stderr, and files that say so, too."""
    trouble = Trouble(what, "", None, blame=Blame.SUBJECT)
    count = profile_named(options.profile).problems
    report = Report(options.subject, options.profile, options.seed, [], [trouble], count, 0)
    _Files(options).write(replace(report, apart=not options.in_process), last=True)
    return refuse(what, report.exit_code)


def _same(one: Path, other: Path) -> bool:
    """Whether two names are one file, by links, too."""
    with contextlib.suppress(OSError):
        if one.samefile(other):
            return True
    return one.resolve() == other.resolve()


@contextlib.contextmanager
def _hearing_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as an interrupt does, and not its report."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]  # as by nohup
    for number in heard:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _progress(problems: int) -> tuple[Progress, Callable[[str], None]]:
    """A bar on stderr, and what moves it: what the subject prints to stdout is caught meanwhile."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(file=Unbroken(sys.stderr)),
        transient=True,
        redirect_stdout=False,
    )
    asking = bar.add_task("problems", total=problems)
    shrinking = bar.add_task("smaller problems", total=None, visible=False)

    def tick(what: str) -> None:
        task = asking if what == "problem" else shrinking
        bar.update(task, advance=1, visible=True)

    return bar, tick


class _Files:
    """The reports in files; one that cannot be written is told, and changes no verdict."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._rerun, self._last = options, command_line(options), 0.0

    def now_and_then(self, report: Report) -> None:
        """What is known so far, for whoever finds it if this process is killed."""
        if time.monotonic() - self._last > OFTEN:
            self.write(report)

    def write(
        self, report: Report, examiner: Here | Apart | None = None, last: bool = False
    ) -> None:
        """Both files; with an examiner, or if it is the last time, for good."""
        options, last = self._options, last or examiner is not None

        def as_text() -> str:
            plain = as_json.as_dict(report, options.subject, self._rerun)
            return json.dumps(plain, indent=2) + "\n"

        def as_page() -> str:
            from ekfac_ref.conformance.reports.html import page  # imports what the extra installs

            return page(report, partial(_look, examiner), options.subject, self._rerun)

        for path, text in ((options.json, as_text), (options.report, as_page)):
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


def _look(examiner: Here | Apart | None, problem: Written, lane: Lane) -> Furthest | str:
    """The layer that is furthest off, for a picture."""
    if isinstance(examiner, Apart):
        return examiner.look(problem, lane)
    if examiner is None:
        return "the run is not at its end."
    try:
        with at_most(examiner.seconds), contextlib.redirect_stdout(None):
            return furthest(examiner.subject, problem, lane)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a subject may raise
        return f"asked once more, it raised {message(error)}"


def command_line(options: argparse.Namespace) -> str:
    """What to type to have the same run again."""
    words = ["ekfac-ref", "check", options.subject, "--profile", options.profile]
    words += ["--seed", str(options.seed)]
    words += [word for law in options.law or () for word in ("--law", law)]
    words += ["--seconds", f"{options.seconds:g}"] if options.seconds != 60 else []
    words += ["--known", options.known[0]] if options.known else []
    words += ["--in-process"] if options.in_process else []
    return shlex.join(words)
