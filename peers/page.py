"""The board as ``docs/peers.md``."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from math import isnan
from pathlib import Path
from typing import Any

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.problems.features import FEATURES
from peers.board import Cell, Verdict, by_feature, by_law, deviations
from peers.catalogue import FINDINGS, MANNERS, NUMBERS, counted
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
_THREAD = re.compile(r"([\w.-]+/[\w.-]+)(?:#(\d+)|@([0-9a-f]{7}))")  # owner/name#4, owner/name@abc
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
*exact*: every law that was asked holds to rounding error, by the [conventions](#conventions) that
the adapter declares. *refuses*: by an exception of its own, or of its adapter's, where it has no
way to be given that. *explained*: met, and no finding, see below. *in doubt*: no problem tells it
apart from what it came with. *no answer*: all problems with it were refused for the sake of others.
*-*: not drawn for this library, as it does not offer it. † marks a feature that its documentation
names and to which no problem was answered. *wrong* leads to the finding, and by how much is what
its script has found, relative to what is right.

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
            *_table({one: by_feature(one, reports[one.name]) for one in asked}, FEATURES, told),
            "\n## Laws\n\n",
            *_table({one: by_law(one, reports[one.name]) for one in asked}, LAWS, told),
            "\n## Conventions\n\n",
            *map(_conventions, asked),
            *_findings(told),
            *_explained(asked, reports),
        ]
    )


def _asked(reports: Mapping[str, Mapping[str, Any]], left_out: Mapping[str, str]) -> Iterator[str]:
    yield "| library | what was asked | problems, answered | seed, digest |\n|---|---|---|---|\n"
    for one in LIBRARIES:
        found = reports.get(one.name) or {}
        if not found:
            why = left_out.get(one.name, "not asked yet")
            yield f"| {one.name} {one.version} | left out: {why} | | |\n"
        for subject, r in found.items():
            yield (
                f"| [{one.name}]({one.documented}) {one.versions} | {one.offers} (`{subject}`) | "
                f"{r['asked']}, {r['answered']} | {r['seed']}, `{r['digest']}` |\n"
            )


def _table(
    cells: Mapping[Library, Mapping[str, Cell]], rows: Any, told: Mapping[str, str]
) -> Iterator[str]:
    yield f"| | {' | '.join(one.name for one in cells)} |\n|---|{'---|' * len(cells)}\n"
    for row in rows:
        found = [of_library.get(row) for of_library in cells.values()]
        if any(cell and cell.verdict is not Verdict.NOT_DRAWN for cell in found):
            yield f"| {row} | {' | '.join(_mark(cell, told) for cell in found)} |\n"


def _mark(cell: Cell | None, told: Mapping[str, str]) -> str:
    if cell is None:
        return "-"
    mark = _MARKS[cell.verdict]
    if cell.verdict is Verdict.WRONG:
        first = cell.why.partition(",")[0]
        mark = f"[{mark}](#{first}){_by_how_much(told.get(first, ''))}"
    return mark + ("†" if cell.is_unanswered_claim else "")


def _by_how_much(told: str) -> str:
    """Of what a script printed."""
    if not (numbers := NUMBERS.fullmatch(told)):
        return ""
    expected, got = float(numbers[1]), float(numbers[2])
    if isnan(got) or not expected:
        return f", {got:g} for {expected:g}"
    return f", {abs(got / expected - 1):.0%}"


def _conventions(library: Library) -> str:
    """What its adapter declares, and where that is documented: the adapter's own words."""
    adapter = Path(__file__).with_name("adapters") / f"{library.module}.py"
    said = (ast.get_docstring(ast.parse(adapter.read_text())) or "").partition("\n\n")[2]
    words = " ".join(said.replace("``", "`").split())
    return f"- [{library.name}]({library.documented}). {words}\n"


def _findings(told: Mapping[str, str]) -> Iterator[str]:
    yield f"\n## Findings\n\n{counted()}, each with its script in "
    yield "[`peers/findings`](../peers/findings), which `make peers` runs and holds to.\n"
    for one in FINDINGS:
        yield f"\n### {one.id}\n\n{one.library}: {one.sentence}\n\n"
        yield f"- it has: `{one.wrong}`; right is: `{one.right}`\n"
        yield f"- the script prints: `{told.get(one.id, 'not run')}`\n"
        if one.links:
            yield f"- {_THREAD.sub(_link, one.links)}\n"
        if one.may_be_meant:
            yield "- a question: it may be a convention, and the board does not call it wrong\n"


def _link(thread: re.Match[str]) -> str:
    """To the issue or the commit that a text names."""
    home = f"https://github.com/{thread[1]}"
    where = f"issues/{thread[2]}" if thread[2] else f"commit/{thread[3]}"
    return f"[{thread[0]}]({home}/{where})"


def _explained(asked: list[Library], reports: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    met = [(one, found) for one in asked for found in deviations(one, reports[one.name])]
    counts = Counter(found.verdict for _, found in met)
    yield "\n## Everything that was met\n\n"
    yield (
        f"{len(met)} deviations were told apart: {counts[Verdict.WRONG]} are findings, "
        f"{counts[Verdict.EXPLAINED]} are explained, {counts[Verdict.UNEXPLAINED]} are not "
        "explained yet and accuse nobody.\n\n"
    )
    for one, found in met:
        what = f"{one.name}, `{found.subject}`. {found.sentence[:-1]}: {', '.join(found.laws)}."
        yield f"- {what} *{_MARKS[found.verdict].strip('*')}*: {found.why or 'open'}\n"
    yield f"\nThe laws {', '.join(MANNERS)} are asked by this kit and promised by no "
    yield "library: what is broken there is no number that is wrong, and no finding.\n"
