"""Several subjects on one screen, each asked the problems that its abilities allow."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ekfac_ref.conformance.findings.board import Standing
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Status
from ekfac_ref.conformance.reports.terminal import COLOURS, STYLES, one_line, printable


def print_side_by_side(console: Console, reports: Sequence[Report]) -> None:
    """The verdict of each; then features and laws that are not right for all, a column for each."""
    for report in reports:
        says = " ".join([report.summary, *report.sentences])
        style = "bold green" if report.exit_code == 0 else "bold red"
        line = f"{printable(report.subject)}: {one_line(says, 600)}"
        console.print(Text(line, style), soft_wrap=True)
    if len(reports) > 1:
        _print_table(console, "feature", [_features(report) for report in reports], reports)
        _print_table(console, "law", [_laws(report) for report in reports], reports)


def _features(report: Report) -> dict[str, Text]:
    return {
        score.name: Text(score.standing.value, COLOURS[score.standing])
        for score in report.scoreboard
        if score.standing is not Standing.NOT_DRAWN
    }


def _laws(report: Report) -> dict[str, Text]:
    return {
        verdict.law.name: Text(verdict.status.value, STYLES[verdict.status])
        for verdict in report.verdicts
        if verdict.status is not Status.NOT_OFFERED
    }


def _print_table(
    console: Console, what: str, columns: list[dict[str, Text]], reports: Sequence[Report]
) -> None:
    """A row for each name that some subject is not right in; "-" where it was not asked."""
    right = {Standing.EXACT.value, Status.PASS.value}
    told = dict.fromkeys(
        name for column in columns for name, verdict in column.items() if verdict.plain not in right
    )
    if not told:
        return
    table = Table(what)
    for report in reports:
        table.add_column(Text(printable(report.subject)))
    for name in told:
        table.add_row(Text(name), *(column.get(name, Text("-", "dim")) for column in columns))
    console.print(table)
