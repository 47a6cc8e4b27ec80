"""A report to be read by people, on a terminal or in a file.

What a subject says is shown as it is: never as markup, and never as commands to the terminal.
"""

import errno
import os
import sys
from collections import Counter
from math import isfinite

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ekfac_ref.conformance.run.verdicts import FAULT, Report, Status, Trouble, Verdict

STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.EXPECTED_FAILURE: "yellow",
    Status.UNEXPECTED_PASS: "bold red",
    Status.NOT_OFFERED: "dim",
    Status.INCONCLUSIVE: "yellow",
    Status.IN_DOUBT: "yellow",
}
PRINTED_LINES = 12  # of what the subject printed; the other reports have all of it


class Terminal(Console):
    """stdout. Where nobody reads on, BrokenPipeError says so: rich alone would exit with 1."""

    def __init__(self) -> None:
        super().__init__(file=sys.stdout, highlight=False)

    def on_broken_pipe(self) -> None:
        """Called by rich where it has caught one."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def printable(text: str) -> str:
    """The text with escape codes in place of the characters that a terminal would act on."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def one_line(text: str, width: int = 300) -> str:
    """The text in one printable line, cut where it is longer than ``width``."""
    joined = printable(" ".join(text.split()))
    return joined if len(joined) <= width else f"{joined[: width - 3]}..."


def worst(verdict: Verdict) -> str:
    """The largest ratio to rounding as reports print it; "" where there is none."""
    return f"{verdict.worst:.2g}" if verdict.asked and isfinite(verdict.worst) else ""


def print_report(console: Console, report: Report, subject: str | None, rerun: str) -> None:
    """Print the table of laws, every broken law with its problem, and what else went wrong.

    ``subject`` is the path that problems as Python load, None for an unknown one; ``rerun`` is the
    command that makes the same run again.
    """
    console.print(_table(report))
    for verdict in report.verdicts:
        if verdict.problem is not None:
            _failure(console, verdict, verdict.problem.script(verdict.law.name, subject))
    for note in report.notes:
        _say(console, f"\nBeside the verdict: {one_line(note, 1000)}", "yellow")
    if report.diagnosis:
        _say(console, f"\nDiagnosis: {printable(report.diagnosis)}", "bold")
    _troubles(console, report)
    _printed(console, report)
    if not report.apart:
        _say(console, f"\n{how_asked(report)}")
    _say(console, "\nTo run it again:\n", "bold")
    _say(console, f"    {rerun}\n")
    style = "bold green" if report.exit_code == 0 else "bold red"
    _say(console, report.summary, style)


def _table(report: Report) -> Table:
    title = f"{printable(report.subject)}, profile {report.profile}, seed {report.seed}"
    title += f", problems {report.digest}" if report.digest else ""
    found = Table(title=Text(title), title_justify="left")
    found.add_column("law")
    found.add_column("verdict")
    found.add_column("problems", justify="right")
    found.add_column("worst, in roundings", justify="right")
    for verdict in report.verdicts:
        status = Text(verdict.status.value, STYLES[verdict.status])
        found.add_row(Text(verdict.law.name), status, str(verdict.asked), worst(verdict))
    return found


def _failure(console: Console, verdict: Verdict, source: str) -> None:
    law = verdict.law
    _say(console, f"\n{law.name}: {verdict.status.value}", STYLES[verdict.status])
    if verdict.reason:
        _say(console, f"known:     {printable(verdict.reason)}")
    _say(console, f"must hold: {law.statement}" + (f" [{law.source}]" if law.source else ""))
    _say(console, f"found:     {one_line(verdict.broken)}")
    _say(console, "on this problem, which runs alone:\n")
    _say(console, printable(source), "cyan")


def how_asked(report: Report) -> str:
    """In whose process the subject was asked, and what that means."""
    if report.apart:
        return "The subject was asked in a process of its own, which could not end this report."
    return (
        "The subject was asked in the process that wrote this report, which it could have ended or "
        "changed; `ekfac-ref check` has a process of its own for it."
    )


def _troubles(console: Console, report: Report) -> None:
    answers = [trouble for trouble in report.troubles if trouble not in report.faults]
    if answers:
        _say(console, "\nProblems without an answer (more on each: --report or --json):", "bold")
        _counted(console, answers, report.problems)
    if report.faults:
        _say(console, f"\nA fault of the kit: {FAULT}:", "bold red")
        _counted(console, report.faults, report.problems)
        _say(console, f"\n{printable(report.faults[0].traceback)}")


def _counted(console: Console, troubles: list[Trouble], problems: int) -> None:
    for what, times in Counter(trouble.what for trouble in troubles).items():
        of = f"{times} of {problems}: " if all(trouble.problem for trouble in troubles) else ""
        _say(console, f"{of}{one_line(what)}")


def _printed(console: Console, report: Report) -> None:
    lines = printable(report.printed).splitlines()
    if not lines:
        return
    shown = lines[:PRINTED_LINES]
    more = f", {len(shown)} of {len(lines)} lines" if len(lines) > len(shown) else ""
    _say(console, f"\nThe subject printed{more}:", "bold")
    for line in shown:
        _say(console, f"    {line}", "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    """A Text knows no markup; lines are left as long as they are, to be copied."""
    console.print(Text(text, style), soft_wrap=True)
