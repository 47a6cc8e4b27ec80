"""``ekfac-ref check``: all laws, asked of a subject, and three reports."""

import argparse
import contextlib
import io
import json
import shlex
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
from rich.text import Text

from ekfac_ref.commands.subject import refuse, with_subject
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.reports import as_json, terminal
from ekfac_ref.conformance.run.profile import profile_named
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.run.verdicts import Report, Trouble
from ekfac_ref.conformance.run.watchdog import Watchdog
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.extras import missing


def check_command(options: argparse.Namespace) -> int:
    """Run it, show a bar meanwhile, and write what is known if the subject hangs for good."""
    if options.report and (what := missing("report")):
        return refuse(f"--report needs {what}: install with pip install 'ekfac-ref[report]'", 2)

    def put_on_trial(subject: Subject, printed: io.StringIO) -> int:
        profile = profile_named(options.profile)
        bar, tick = _progress(profile.problems)
        out = sys.stdout  # which is another one while the subject answers

        def tell(report: Report) -> None:
            report = replace(report, printed=printed.getvalue() + report.printed)
            _write(report, run.limited_subject, options, Console(file=out, highlight=False))

        def last_report(stuck: Trouble) -> None:
            bar.stop()
            tell(run.so_far(stuck))

        watchdog = Watchdog(last_report)
        laws = [LAWS[name] for name in LAWS if name in (options.law or LAWS)]
        limits = {"seconds": options.seconds, "limit": watchdog.limit}
        run = Run(subject, profile, options.seed, laws, tick=tick, **limits)
        with watchdog.watching():
            with bar:
                report = run.report()
            report = run.diagnosed(report)
            tell(report)
        return report.exit_code

    return with_subject(options.subject, put_on_trial)


def _progress(problems: int) -> tuple[Progress, Callable[[str], None]]:
    """A bar on stderr, and what moves it: what the subject prints to stdout is caught meanwhile."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
    asking = bar.add_task("problems", total=problems)
    shrinking = bar.add_task("smaller problems", total=None, visible=False)

    def tick(what: str) -> None:
        task = asking if what == "problem" else shrinking
        bar.update(task, advance=1, visible=True)

    return bar, tick


def _write(report: Report, subject: Subject, options: argparse.Namespace, console: Console) -> None:
    """``subject`` is asked once more, for the pictures of the page."""
    rerun = command_line(options)
    if options.json:
        text = json.dumps(as_json.as_dict(report, options.subject, rerun), indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.report:
        from ekfac_ref.conformance.reports.html import page  # imports what the extra installs

        with contextlib.redirect_stdout(io.StringIO()):
            html = page(report, subject, options.subject, rerun)
        options.report.write_text(html, encoding="utf-8")
    for path in filter(None, (options.report, options.json)):
        console.print(Text(f"Written: {terminal.printable(str(path))}"), soft_wrap=True)
    terminal.print_report(console, report, options.subject, rerun)


def command_line(options: argparse.Namespace) -> str:
    """What to type to have the same run again."""
    words = ["ekfac-ref", "check", options.subject, "--profile", options.profile]
    words += ["--seed", str(options.seed)]
    words += [word for law in options.law or () for word in ("--law", law)]
    words += ["--seconds", f"{options.seconds:g}"] if options.seconds != 60 else []
    return shlex.join(words)
