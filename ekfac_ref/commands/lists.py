"""``ekfac-ref laws`` and ``ekfac-ref mutants``: what must hold, and known mistakes."""

import argparse
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.reports.terminal import Terminal
from ekfac_ref.conformance.run.load import MUTANT


def laws_command(options: argparse.Namespace) -> int:
    """Print every law, or all about the one that is named."""
    if options.law is None:
        rows = [(law.name, law.lane.name.lower(), law.statement) for law in LAWS.values()]
        return _list(("law", "lane", "must hold"), rows)
    law = LAWS[options.law]
    by = [mutant.name for mutant in MUTANTS.values() if law.name in mutant.laws]
    return _facts(
        ("law", law.name),
        ("must hold", law.statement),
        ("lane", f"{law.lane.name.lower()}: asked where the subject offers {law.lane.value}"),
        ("source", law.source),
        ("mutants", ", ".join(by) or "none names it"),
    )


def mutants_command(options: argparse.Namespace) -> int:
    """Print every known mistake, or all about the one that is named."""
    if options.mutant is None:
        rows = [(mutant.name, mutant.mistake) for mutant in MUTANTS.values()]
        return _list(("mutant", "it looks as if the implementation"), rows)
    mutant = MUTANTS[options.mutant]
    return _facts(
        ("mutant", mutant.name),
        ("mistake", mutant.mistake),
        ("story", mutant.story),
        ("shows on", mutant.only or "almost any problem"),
        ("laws", ", ".join(mutant.laws) or "none can notice it"),
        ("proof", mutant.proof),
        ("try it", f"ekfac-ref check {MUTANT}{mutant.name} --profile demo"),
    )


def _list(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> int:
    """A table of which only the last column wraps."""
    table = Table()
    for number, title in enumerate(header):
        table.add_column(title, no_wrap=number + 1 < len(header))
    for row in rows:
        table.add_row(*map(Text, row))
    Terminal().print(table)
    return 0


def _facts(*facts: tuple[str, str]) -> int:
    """A line for each that has a value."""
    console = Terminal()
    for name, value in facts:
        if value:
            console.print(Text(f"{name + ':':<11}") + Text(value), soft_wrap=True)
    return 0
