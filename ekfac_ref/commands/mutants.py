"""``ekfac-ref mutants``: known mistakes."""

import argparse

from rich.console import Console

from ekfac_ref.commands.tables import list_table, print_facts
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.run.load import MUTANT


def mutants_command(options: argparse.Namespace) -> int:
    """Print every known mistake, or all about the one that is named."""
    console = Console(highlight=False)
    if options.mutant is None:
        rows = [(mutant.name, mutant.mistake) for mutant in MUTANTS.values()]
        console.print(list_table(("mutant", "it looks as if the implementation"), rows))
        return 0
    mutant = MUTANTS[options.mutant]
    facts = [
        ("mutant", mutant.name),
        ("mistake", mutant.mistake),
        ("story", mutant.story),
        ("shows on", mutant.only or "almost any problem"),
        ("laws", ", ".join(mutant.laws) or "none can notice it"),
        ("proof", mutant.proof),
        ("try it", f"ekfac-ref check {MUTANT}{mutant.name} --profile demo"),
    ]
    print_facts(console, facts)
    return 0
