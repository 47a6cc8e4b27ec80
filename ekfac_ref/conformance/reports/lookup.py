"""What ``ekfac-ref laws`` and ``ekfac-ref mutants`` print."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.problems.source import MUTANT


def laws(name: str | None) -> int:
    """Print all, or all about one."""
    console = Console(highlight=False)
    if name is None:
        rows = [(law.name, law.lane.name.lower(), law.statement) for law in LAWS.values()]
        console.print(_columns(("law", "lane", "must hold"), rows))
        return 0
    law = LAWS[name]
    by = [mutant.name for mutant in MUTANTS.values() if name in mutant.laws]
    _facts(
        console,
        [
            ("law", law.name),
            ("must hold", law.statement),
            ("lane", f"{law.lane.name.lower()}: asked where the subject offers {law.lane.value}"),
            ("source", law.source),
            ("mutants", ", ".join(by) or "none names it"),
        ],
    )
    return 0


def mutants(name: str | None) -> int:
    """Print all, or all about one."""
    console = Console(highlight=False)
    if name is None:
        rows = [(mutant.name, mutant.mistake) for mutant in MUTANTS.values()]
        console.print(_columns(("mutant", "it looks as if the implementation"), rows))
        return 0
    mutant = MUTANTS[name]
    _facts(console, _about(mutant))
    return 0


def _about(mutant: Mutant) -> list[tuple[str, str]]:
    return [
        ("mutant", mutant.name),
        ("mistake", mutant.mistake),
        ("story", mutant.story),
        ("shows on", mutant.only or "almost any problem"),
        ("laws", ", ".join(mutant.laws) or "none can notice it"),
        ("proof", mutant.proof),
        ("try it", f"ekfac-ref check {MUTANT}{mutant.name} --profile demo"),
    ]


def _columns(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table()
    for number, title in enumerate(header):
        table.add_column(title, no_wrap=number + 1 < len(header))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _facts(console: Console, facts: list[tuple[str, str]]) -> None:
    for name, value in facts:
        if value:
            console.print(Text(f"{name + ':':<11}") + Text(value), soft_wrap=True)
