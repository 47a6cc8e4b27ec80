"""The board as ``docs/peers.md``."""

from collections.abc import Iterator, Mapping
from typing import Any

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.problems.features import FEATURES
from peers.board import Cell, Verdict, by_feature, by_law, deviations
from peers.catalogue import FINDINGS, MANNERS, counted
from peers.libraries import LIBRARIES, Library

_MARKS = {
    Verdict.WRONG: "**wrong**",
    Verdict.UNEXPLAINED: "deviates (?)",
    Verdict.EXPLAINED: "explained",
    Verdict.EXACT: "exact",
    Verdict.IN_DOUBT: "in doubt",
    Verdict.REFUSES: "refuses",
    Verdict.NOT_ANSWERED: "no answer",
    Verdict.NOT_DRAWN: "-",
}

_ZERO = 1e9  # from so many units on, what it is compared with is zero
_HEAD = """# Released libraries on trial

Written by `make peers`; do not edit. {date}; torch {torch}. Back to the
[README](../README.md).

This project has learned from these libraries, and each of them does things that it does not. They
were asked about small networks, drawn at random, one feature at a time. Where one deviates from the
definition, it is told as its maintainers might want to have it: one sentence, the formula, and a
script of thirty lines, with that library and its torch or JAX alone, that finds the right number a
second way.

![Features by library](peers.svg)

"""
_BOARD = """
*exact*: every law that was asked holds to rounding error, under the conventions that the adapter
declares and says where they are documented (`peers/adapters`). *refuses*: by an exception of its
own, or of its adapter's, where it has no way to be given that. *explained*: met, and no finding,
see below. *in doubt*: no problem tells it apart from what it came with. *no answer*: all problems
with it were refused for the sake of others. *-*: not drawn for this library, as it does not offer
it. † marks a feature that its documentation names and to which no problem was answered. Numbers:
how far a law is off, in units of what it compares; *not zero*, where that is zero.

"""


def page(reports: Mapping[str, Mapping[str, Any]], told: Mapping[str, str], head: Any) -> str:
    """Of {library's name: {subject: report}}, and {finding's id: what its script printed}."""
    asked = [one for one in LIBRARIES if reports.get(one.name)]
    return "".join(
        [
            _HEAD.format(**head),
            *_asked(reports, head["left_out"]),
            "\n## Features\n",
            _BOARD,
            *_table(
                asked, {one.name: by_feature(one, reports[one.name]) for one in asked}, FEATURES
            ),
            "\n## Laws\n\n",
            *_table(asked, {one.name: by_law(one, reports[one.name]) for one in asked}, LAWS),
            *_findings(told),
            *_explained(asked, reports),
        ]
    )


def _asked(reports: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]) -> Iterator[str]:
    yield "| library | what was asked | problems, answered | seed, digest |\n|---|---|---|---|\n"
    for one in LIBRARIES:
        found = reports.get(one.name) or {}
        if not found:
            why = left_out.get(one.name, one.left_out)
            yield f"| {one.name} {one.version} | left out: {why} | | |\n"
        for subject, r in found.items():
            yield (
                f"| [{one.name}]({one.documented}) {one.versions} | {one.offers} (`{subject}`) | "
                f"{r['asked']}, {r['answered']} | {r['seed']}, `{r['digest']}` |\n"
            )


def _table(
    asked: list[Library], cells: Mapping[str, Mapping[str, Cell]], rows: Any
) -> Iterator[str]:
    yield f"| | {' | '.join(one.name for one in asked)} |\n|---|{'---|' * len(asked)}\n"
    for row in rows:
        found = [cells[one.name].get(row) for one in asked]
        if any(cell and cell.verdict is not Verdict.NOT_DRAWN for cell in found):
            yield f"| {row} | {' | '.join(map(_told, found))} |\n"


def _told(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    mark = _MARKS[cell.verdict]
    if cell.size and cell.verdict in (Verdict.WRONG, Verdict.UNEXPLAINED):
        mark += f", {cell.size:.0e}" if cell.size < _ZERO else ", not zero"
    return mark + ("†" if cell.is_unanswered_claim else "")


def _findings(told: Mapping[str, str]) -> Iterator[str]:
    yield f"\n## Findings\n\n{counted()}, each with its script in "
    yield "[`peers/findings`](../peers/findings), which `make peers` runs and holds to.\n"
    for one in FINDINGS:
        yield f"\n**{one.id}**. {one.library}: {one.sentence}\n"
        yield f"- it has: `{one.wrong}`; right is: `{one.right}`\n"
        yield f"- the script prints: `{told.get(one.id, 'not run')}`\n"
        if one.links:
            yield f"- {one.links}\n"
        if one.may_be_meant:
            yield "- a question: it may be a convention, and the board does not call it wrong\n"


def _explained(asked: list[Library], reports: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    met = [(one, *pair) for one in asked for pair in deviations(one, reports[one.name])]
    counts = {v: sum(cell.verdict is v for _, _, cell in met) for v in Verdict}
    yield "\n## Everything that was met\n\n"
    yield (
        f"{len(met)} features of a library deviate: {counts[Verdict.WRONG]} are findings, "
        f"{counts[Verdict.EXPLAINED]} are explained, {counts[Verdict.UNEXPLAINED]} are not "
        f"explained yet and accuse nobody.\n\n"
    )
    for one, feature, cell in met:
        if cell.verdict is not Verdict.WRONG:
            why = cell.why or "met, not explained"
            yield f"- {one.name}, {feature}: {why}\n"
    yield f"\nThe laws {', '.join(MANNERS)} are asked by this kit and promised by no "
    yield "library: what is broken there is no number that is wrong, and no finding.\n"
