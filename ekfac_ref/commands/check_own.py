"""``ekfac-ref check SUBJECT --problem MODULE:NAME``: the laws for layers of any size."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ekfac_ref.commands.report_files import ReportFiles
from ekfac_ref.commands.rerun import hearing_signals
from ekfac_ref.commands.subject import Unbroken, loaded
from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.own_model.check_on import HOUR
from ekfac_ref.conformance.own_model.load_problem import load_problem
from ekfac_ref.conformance.own_model.own_examiner import OwnHere
from ekfac_ref.conformance.own_model.own_run import ASKABLE, OwnRun
from ekfac_ref.conformance.process.own_apart import OwnApart
from ekfac_ref.errors import ProblemError


def put_on_trial_on(
    stack: contextlib.ExitStack,
    options: argparse.Namespace,
    show: Callable[[Report, argparse.Namespace], object],
) -> int:
    """Measure, ask, judge; show the report, write the files; the exit code.

    Raises:
        MistakenProblem: there is no such problem, or it has no right answer.
        ProblemError: there is no such subject or law.
    """
    if other := [name for name in options.law or () if name not in ASKABLE]:
        raise ProblemError(f"--law {other[0]}: it is asked of drawn problems; leave out --problem.")
    files = ReportFiles(options, options.rerun)
    examiner, passes = _begun(stack, options)
    known = options.known[1] if options.known else KnownDeviations()
    run = OwnRun(examiner, options.problem, options.seed, options.law or ASKABLE, known)
    bar, run.tick = _bar(passes, run, files)
    files.write(run.so_far())  # what is there of an earlier run is not this one's
    with hearing_signals(), bar:
        report = run.report()
    show(report, options)
    sys.stdout.flush()
    files.write(report, last=True)
    return report.exit_code


def _begun(
    stack: contextlib.ExitStack, options: argparse.Namespace
) -> tuple[OwnHere | OwnApart, int]:
    """Who asks, with the problem at hand, and how many passes there will be."""
    seconds = options.seconds or HOUR
    if not options.in_process:
        apart = stack.enter_context(contextlib.closing(OwnApart(options.subject, seconds)))
        return apart, apart.begin(options.problem, options.seed)
    threads = torch.get_num_threads()
    subject, printed = loaded(options.subject)
    torch.set_num_threads(threads)  # these matrices are not small
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    here = OwnHere(subject, seconds, options.subject)
    here.printed = printed
    return here, here.begin(load_problem(options.problem), options.seed, options.problem)


def _bar(passes: int, run: OwnRun, files: ReportFiles) -> tuple[Progress, Callable[[str], None]]:
    """A bar on stderr, with the time that is left as far as that can be told."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=Unbroken(sys.stderr)),
        transient=True,
        redirect_stdout=False,
    )
    measuring = bar.add_task("measuring what is right, passes", total=passes)
    answering = bar.add_task("the subject answers", total=1, visible=False)
    judging = bar.add_task("judging, blocks", total=None, visible=False)

    def tick(what: str) -> None:
        task = {"measured": measuring, "answered": answering}.get(what, judging)
        bar.update(task, advance=1, visible=True)
        if bar.tasks[measuring].finished:
            bar.update(answering, visible=True)
        if what != "measured":
            bar.update(judging, total=run.blocks, visible=True)
            files.now_and_then(run.so_far())

    return bar, tick
