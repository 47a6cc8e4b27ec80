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

from ekfac_ref.conformance.findings.board import Score, Standing
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import FAULT, Status, Trouble, Verdict
from ekfac_ref.conformance.laws.catalogue import LAWS

STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.EXPECTED_FAILURE: "yellow",
    Status.UNEXPECTED_PASS: "bold red",
    Status.NOT_OFFERED: "dim",
    Status.INCONCLUSIVE: "yellow",
    Status.IN_DOUBT: "yellow",
    Status.REFUSED: "yellow",
}
COLOURS = {
    Standing.WRONG: "bold red",
    Standing.REFUSES: "yellow",
    Standing.IN_DOUBT: "yellow",
    Standing.NOT_ANSWERED: "yellow",
    Standing.EXACT: "green",
    Standing.NOT_DRAWN: "dim",
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


def would_notice(verdict: Verdict) -> str:
    """The smallest relative errors that are noticed, from block to block; "" where nobody says."""
    if verdict.notices is None:
        return ""
    low, high = (f"{x:.1g}" for x in verdict.notices)
    return low if low == high else f"{low} to {high}"


def asked_about(report: Report) -> str:
    """The problems of a profile, or a user's own."""
    return f"on {printable(report.about)}" if report.about else f"profile {report.profile}"


def print_report(console: Console, report: Report, subject: str | None, rerun: str) -> None:
    """Print the verdict, what separates right from wrong, and the scoreboard; then laws, one by
    one, then what went wrong else, and one problem for each cause.

    ``subject`` is the path that problems as Python load, None for an unknown one; ``rerun`` is the
    command that makes the same run again.
    """
    style = "bold green" if report.exit_code == 0 else "bold red"
    _say(console, report.summary, style)
    for sentence in report.sentences:
        _say(console, one_line(sentence, 600), "bold")
    _board(console, report.scoreboard, report.things)
    console.print(_table(report))
    for note in report.notes:
        _say(console, f"\nBeside the verdict: {one_line(note, 1000)}", "yellow")
    _troubles(console, report)
    _printed(console, report)
    _exhibits(console, report, subject)
    if not report.apart:
        _say(console, f"\n{how_asked(report)}")
    _say(console, "\nTo run it again:\n", "bold")
    _say(console, f"    {rerun}\n")
    _say(console, report.summary, style)


def how_far(score: Score) -> tuple[str, str]:
    """(relative to the size of what is summed, in roundings), each "" where there is none."""
    off = score.worst
    if off is None:
        return "", ""
    numbers = off.size, off.ratio
    size, ratio = (f"{x:.1g}" if isfinite(x) else "" for x in numbers)
    return size, ratio


def standing(score: Score) -> str:
    """A feature's verdict, with what it takes for that, and why it is known."""
    beside = f" where {score.beside}" if score.beside else ""
    known = f" ({one_line(score.known, 60)})" if score.known else ""
    return f"{score.standing.value}{beside}{known}"


def _board(console: Console, scores: list[Score], things: str) -> None:
    """A line for each feature that is not exact; the others in one line."""
    told = [s for s in scores if s.standing not in (Standing.EXACT, Standing.NOT_DRAWN)]
    if told:
        table = Table()
        table.add_column("feature", no_wrap=True)
        table.add_column("verdict")
        table.add_column(things)
        table.add_column("off by, in roundings")
        for score in told:
            verdict = Text(standing(score), COLOURS[score.standing])
            off = ", ".join(filter(None, how_far(score)))
            table.add_row(Text(score.name), verdict, _counts(score), off)
        console.print(table)
    for kind in (Standing.EXACT, Standing.NOT_DRAWN):
        names = [score.name for score in scores if score.standing is kind]
        if names and len(names) < len(scores):
            console.print(Text(f"{kind.value}: {'; '.join(names)}", COLOURS[kind]))


def _counts(score: Score) -> str:
    """How many of the problems with a feature came out how."""
    ways = {"held": score.held, "broken": score.broken, "refused": score.refused}
    told = [f"{number} {way}" for way, number in ways.items() if number]
    return f"{', '.join(told) or 'none told'} of {score.drawn}"


def _table(report: Report) -> Table:
    title = f"{printable(report.subject)}, {asked_about(report)}, seed {report.seed}"
    title += f", problems {report.digest}" if report.digest else ""
    sees = any(verdict.notices for verdict in report.verdicts)
    found = Table(title=Text(title), title_justify="left")
    found.add_column("law")
    found.add_column("verdict")
    found.add_column(report.things, justify="right")
    found.add_column("worst, in roundings", justify="right")
    if sees:
        found.add_column("would notice", justify="right")
    for verdict in report.verdicts:
        status = Text(verdict.status.value, STYLES[verdict.status])
        more = [would_notice(verdict)] if sees else []
        name = Text(verdict.law.name)
        found.add_row(name, status, str(verdict.asked), worst(verdict), *more)
    return found


def _exhibits(console: Console, report: Report, subject: str | None) -> None:
    """One for each cause, and for what is known or in doubt."""
    told: set[str] = set()
    for exhibit in report.exhibits:
        _say(console, f"\n{exhibit.cause.sentence}", "bold red")
        for law in exhibit.cause.laws:
            if law in exhibit.says:
                _say(console, f"{law}: FAIL")
                _say(console, f"must hold: {LAWS[law].statement}")
                _say(console, f"found:     {one_line(exhibit.says[law])}")
        told |= {*exhibit.says}
        _script(console, exhibit.problem.script(exhibit.law.name, subject))
    for verdict in report.verdicts:
        if verdict.broken and verdict.law.name not in told:
            _say(console, f"\n{verdict.law.name}: {verdict.status.value}", STYLES[verdict.status])
            if verdict.reason:
                _say(console, f"known:     {printable(verdict.reason)}")
            _say(console, f"must hold: {verdict.law.statement}")
            _say(console, f"found:     {one_line(verdict.broken)}")
            if verdict.problem is not None:
                _script(console, verdict.problem.script(verdict.law.name, subject))


def _script(console: Console, source: str) -> None:
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
    for verdict in report.verdicts:
        times, says = verdict.refused
        if times:
            where = f"{times} {report.things}"
            what = f"\nRefused to {verdict.law.name!r} on {where}: {one_line(says)}"
            _say(console, what)
    answers = [trouble for trouble in report.troubles if trouble not in report.faults]
    if answers:
        which = "The problem" if report.about else "Problems"
        what = f"\n{which} without an answer (more: --report or --json):"
        _say(console, what if report.about else what.replace("more:", "more on each:"), "bold")
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
    # Not of how many: what is kept has an end.
    more = f", its first {len(shown)} lines" if len(lines) > len(shown) else ""
    _say(console, f"\nThe subject printed{more}:", "bold")
    for line in shown:
        _say(console, f"    {line}", "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    """A Text knows no markup; lines are left as long as they are, to be copied."""
    console.print(Text(text, style), soft_wrap=True)
