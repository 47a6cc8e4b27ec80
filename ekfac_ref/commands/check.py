"""``ekfac-ref check``: all laws, asked of a subject, and three reports."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from dataclasses import replace

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from ekfac_ref.commands.check_own import put_on_trial_on
from ekfac_ref.commands.report_files import ReportFiles, one_file
from ekfac_ref.commands.rerun import command_line, hearing_signals
from ekfac_ref.commands.subject import Unbroken, loaded, refuse
from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.offline.judge import OfFiles
from ekfac_ref.conformance.own_model.mistaken import MistakenProblem
from ekfac_ref.conformance.process.apart import Apart
from ekfac_ref.conformance.reports import side_by_side, terminal
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import Profile, profile_named
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.errors import ProblemError
from ekfac_ref.extras import missing

PER_PROBLEM = 60.0  # for all laws on one drawn problem
Show = Callable[[Report, argparse.Namespace], object]
_GRAVEST = (6, 3, 4, 1, 5)  # of the exit codes of several subjects, the one that is theirs together


def check_command(options: argparse.Namespace) -> int:
    """Put one subject on trial and print its report, or several and print them side by side."""
    if len(options.subjects) == 1:
        options.subject = options.subjects[0]
        return _of_one(options, printed)
    if options.report or options.json or options.junit:
        return refuse("--report, --json and --junit are of one subject; give one, or neither", 2)
    reports: list[Report] = []
    codes = []
    for subject in options.subjects:
        one = argparse.Namespace(**{**vars(options), "subject": subject})
        codes.append(_of_one(one, lambda report, options: reports.append(report)))
        if codes[-1] == 2:  # wrong usage, for whatever subject
            return 2
    side_by_side.print_side_by_side(terminal.Terminal(), reports)
    return next((code for code in _GRAVEST if code in codes), max(codes))


def printed(report: Report, options: argparse.Namespace) -> None:
    """Print it, to be read."""
    terminal.print_report(terminal.Terminal(), report, options.subject, options.rerun)


def _of_one(options: argparse.Namespace, show: Show) -> int:
    """Run it with a bar meanwhile, show the report, write the files; the exit code.

    Whatever the subject does, it does to a process of its own, unless it is to be asked here.
    """
    if options.report and (what := missing("report")):
        return refuse(f"--report needs {what}: install with pip install 'ekfac-ref[report]'", 2)
    if options.problem and options.max_fail:
        return refuse("--max-fail counts drawn problems; leave it out with --problem", 2)
    if twice := one_file(options):
        return refuse(f"{twice} are one file; give each a file of its own", 2)
    options.rerun = command_line(options)
    with contextlib.ExitStack() as stack:
        try:
            if options.problem:
                return put_on_trial_on(stack, options, show)
            examiner: Here | Apart
            if options.in_process:
                subject, printed = loaded(options.subject)
                examiner = Here(subject, options.seconds or PER_PROBLEM, options.subject)
                examiner.printed = printed
            else:
                examiner = stack.enter_context(
                    contextlib.closing(Apart(options.subject, options.seconds or PER_PROBLEM))
                )
            return put_on_trial(examiner, profile_named(options.profile), options, show)
        except MistakenProblem as error:
            return _refused(str(error), options, Blame.PROBLEM)
        except ProblemError as error:
            return _refused(str(error), options)


def put_on_trial(
    examiner: Here | Apart | OfFiles, profile: Profile, options: argparse.Namespace, show: Show
) -> int:
    """Run it, show the report and write the files; the exit code.

    ``options`` are those of ``check``, and ``rerun``, what to type to have the same run again.
    """
    if other := [name for name in options.law or () if name not in LAWS]:
        raise ProblemError(f"--law {other[0]}: it is asked with --problem alone; leave it out.")
    laws = [LAWS[name] for name in LAWS if name in (options.law or LAWS)]
    files, (bar, tick) = ReportFiles(options, options.rerun), _progress(profile.problems)

    def ticks(what: str) -> None:
        tick(what)
        files.now_and_then(run.so_far())

    known = options.known[1] if options.known else KnownDeviations()
    run = Run(examiner, profile, options.seed, laws, known, ticks, options.max_fail)
    files.write(run.so_far())  # what is there of an earlier run is not this one's
    with hearing_signals():
        with bar:
            report = run.report()
        report = run.diagnosed(report)
    if isinstance(examiner, OfFiles):
        report = replace(report, notes=(*examiner.notes, *report.notes))
    unheard: OSError | None = None
    try:
        show(report, options)
        sys.stdout.flush()
    except OSError as error:  # nobody reads on, or there is no room
        unheard = error
    files.write(report, examiner)
    if unheard:
        raise unheard
    return report.exit_code


def _refused(what: str, options: argparse.Namespace, blame: Blame = Blame.SUBJECT) -> int:
    """One line on stderr, and files that say so, too."""
    trouble = Trouble(what, "", None, blame=blame)
    count = 1 if options.problem else profile_named(options.profile).problems
    report = Report(options.subject, options.profile, options.seed, [], [trouble], count, 0)
    report = replace(report, about=options.problem or "")
    ReportFiles(options, command_line(options)).write(
        replace(report, apart=not options.in_process), last=True
    )
    return refuse(what, report.exit_code)


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
