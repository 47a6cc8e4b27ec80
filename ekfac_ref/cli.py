"""The command ``ekfac-ref``: put a subject on trial, look up laws and known mistakes."""

import argparse
import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    track,
)
from rich.text import Text

from ekfac_ref.conformance.diagnosis.blind_spots import noticed, offered
from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.problems.source import MUTANT
from ekfac_ref.conformance.reports import as_json as report_json
from ekfac_ref.conformance.reports import blind_spots as report_reveal
from ekfac_ref.conformance.reports import lookup
from ekfac_ref.conformance.reports import terminal as report_terminal
from ekfac_ref.conformance.run.check import Run
from ekfac_ref.conformance.run.profile import PROFILES
from ekfac_ref.conformance.run.verdicts import Report, Trouble
from ekfac_ref.conformance.run.watchdog import Watchdog, limited
from ekfac_ref.conformance.subjects.subject import Subject, load
from ekfac_ref.errors import ProblemError
from ekfac_ref.extras import missing

EXIT_CODES = (
    "exit codes of check, the first that applies: 3 a problem got no answer, 4 not all was asked, "
    "1 it does not conform, 2 inconclusive or wrong usage, 0 it conforms"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser, commands = _parser()
    options = parser.parse_args(arguments)
    if options.command == "laws":
        return lookup.laws(options.law)
    if options.command == "mutants":
        return lookup.mutants(options.mutant)
    if options.command == "power":
        return _on_trial(options, _power)
    for path in filter(None, (options.report, options.json)):
        if path.is_dir() or not path.absolute().parent.is_dir():
            commands["check"].error(f"{path}: not a file in a folder that is there; make it first")
    return _check(options)


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="ekfac-ref", description="Put an implementation of EKFAC on trial.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="all laws, asked of a subject", epilog=EXIT_CODES)
    check.add_argument("subject", help=f"package.module:name, or {MUTANT}NAME for a known mistake")
    check.add_argument("--profile", choices=PROFILES, default="quick", help=_profiles())
    check.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    names = list(LAWS)
    check.add_argument("--law", action="append", choices=names, metavar="LAW", help="only these")
    check.add_argument("--seconds", type=_seconds, default=60.0, help="per problem (default: 60)")
    check.add_argument("--report", type=Path, metavar="OUT.html", help="write a page to look at")
    check.add_argument("--json", type=Path, metavar="OUT.json", help="write it for a program")
    laws = commands.add_parser("laws", help="what must hold")
    laws.add_argument("law", nargs="?", choices=names, metavar="LAW", help="all about one")
    mutants = commands.add_parser("mutants", help="known mistakes")
    mistakes = list(MUTANTS)
    mutants.add_argument(
        "mutant", nargs="?", choices=mistakes, metavar="MUTANT", help="all about one"
    )
    power = commands.add_parser("power", help="known mistakes that a subject could hide")
    power.add_argument("subject", help="package.module:name")
    power.add_argument("--problems", type=int, default=24, help="for every mistake (default: 24)")
    power.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    return parser, {"check": check, "laws": laws, "mutants": mutants, "power": power}


def _profiles() -> str:
    sizes = ", ".join(f"{profile.name} {profile.problems}" for profile in PROFILES.values())
    return f"problems: {sizes} (default: quick)"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time limit; give seconds above 0")
    return seconds


def _check(options: argparse.Namespace) -> int:
    if options.report and (what := missing("report")):
        return _refuse(f"--report needs {what}: install with pip install 'ekfac-ref[report]'", 2)
    return _on_trial(options, _put_on_trial)


Trial = Callable[[Subject, argparse.Namespace, io.StringIO], int]


def _on_trial(options: argparse.Namespace, trial: Trial) -> int:
    """Find the subject; what it prints meanwhile is kept for the trial."""
    torch.set_num_threads(1)  # the matrices are small: more threads would wait for one another
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            subject = find(options.subject)
    except ProblemError as error:
        return _refuse(str(error), 3)
    except SystemExit as error:
        return _refuse(f"subject {options.subject!r}: its module exits when imported ({error})", 3)
    return trial(subject, options, printed)


def _put_on_trial(subject: Subject, options: argparse.Namespace, printed: io.StringIO) -> int:
    """``printed`` is what the subject has printed so far."""
    profile = PROFILES[options.profile]
    laws = [law for law in LAWS.values() if law.name in (options.law or [law.name])]
    bar, tick = _progress(profile.problems)
    out = sys.stdout  # which is another one while the subject answers

    def tell(report: Report, asked_again: Subject) -> None:
        report = replace(report, printed=printed.getvalue() + report.printed)
        _write(report, asked_again, options, Console(file=out, highlight=False))

    def bark(stuck: Trouble) -> None:
        bar.stop()
        tell(run.so_far(stuck), subject)

    dog = Watchdog(bark)
    run = Run(
        subject,
        profile,
        options.seed,
        laws,
        tick=tick,
        seconds=options.seconds,
        limit=dog.limit,
    )
    with dog.awake():
        with bar:
            report = run.report()
        asked_again = limited(subject, dog.limit, options.seconds)
        if report.exit_code == 1:
            with contextlib.redirect_stdout(printed):
                report = replace(report, diagnosis=_diagnosis(asked_again, options.seed))
        tell(report, asked_again)
    return report.exit_code


def find(path: str) -> Subject:
    """The subject at ``package.module:name``, or the mutant at ``mutant:name``."""
    if not path.startswith(MUTANT):
        return load(path)
    for mutant in MUTANTS.values():
        if mutant.name == path.removeprefix(MUTANT):
            return mutant.subject
    raise ProblemError(f"subject {path!r}: no such mutant; choose among {list(MUTANTS)}.")


def _power(subject: Subject, options: argparse.Namespace, printed: io.StringIO) -> int:
    drawn = draw_problems(subject.abilities, options.problems, options.seed)
    wrong = [mutant for mutant in MUTANTS.values() if not mutant.proof]
    with contextlib.redirect_stdout(printed):
        laws = offered(subject, drawn)
        found = noticed(subject, drawn, laws, wrong)
        bar = Console(stderr=True)
        revealed = list(track(found, "mistakes", len(wrong), console=bar, transient=True))
    report_reveal.print_blind_spots(
        Console(highlight=False), options.subject, revealed, laws, options.problems
    )
    return 0


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


def _diagnosis(subject: Subject, seed: int) -> str:
    """It asks about many more problems; whatever happens there, the verdict is not lost."""
    try:
        return diagnose(subject, seed=seed).sentence
    except KeyboardInterrupt:
        return "none, it was interrupted."
    except BaseException as error:  # whatever a subject may raise
        return f"none, on another problem it raised {type(error).__name__}: {error}"


def _write(report: Report, subject: Subject, options: argparse.Namespace, console: Console) -> None:
    """``subject`` is asked once more, for the pictures of the page."""
    rerun = command(options)
    if options.json:
        text = json.dumps(report_json.as_dict(report, options.subject, rerun), indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.report:
        from ekfac_ref.conformance.reports.html import page  # imports what the extra installs

        with contextlib.redirect_stdout(io.StringIO()):
            html = page(report, subject, options.subject, rerun)
        options.report.write_text(html, encoding="utf-8")
    for path in filter(None, (options.report, options.json)):
        console.print(Text(f"Written: {report_terminal.printable(str(path))}"), soft_wrap=True)
    report_terminal.print_report(console, report, options.subject, rerun)


def command(options: argparse.Namespace) -> str:
    """What to type to have the same run again."""
    words = ["ekfac-ref", "check", options.subject, "--profile", options.profile]
    words += ["--seed", str(options.seed)]
    words += [word for law in options.law or () for word in ("--law", law)]
    words += ["--seconds", f"{options.seconds:g}"] if options.seconds != 60 else []
    return shlex.join(words)


def _refuse(what: str, code: int) -> int:
    print(f"ekfac-ref: {report_terminal.one_line(what, 2000)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
