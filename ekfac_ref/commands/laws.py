"""``ekfac-ref laws``: what must hold."""

import argparse

from rich.console import Console

from ekfac_ref.commands.tables import list_table, print_facts
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS


def laws_command(options: argparse.Namespace) -> int:
    """Print every law, or all about the one that is named."""
    console = Console(highlight=False)
    if options.law is None:
        rows = [(law.name, law.lane.name.lower(), law.statement) for law in LAWS.values()]
        console.print(list_table(("law", "lane", "must hold"), rows))
        return 0
    law = LAWS[options.law]
    by = [mutant.name for mutant in MUTANTS.values() if law.name in mutant.laws]
    facts = [
        ("law", law.name),
        ("must hold", law.statement),
        ("lane", f"{law.lane.name.lower()}: asked where the subject offers {law.lane.value}"),
        ("source", law.source),
        ("mutants", ", ".join(by) or "none names it"),
    ]
    print_facts(console, facts)
    return 0
