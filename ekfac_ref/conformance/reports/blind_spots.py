"""What ``ekfac-ref power`` prints: which mistakes would go unnoticed in the subject."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ekfac_ref.conformance.diagnosis.blind_spots import Noticed
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.reports.terminal import one_line


def print_blind_spots(
    console: Console, subject: str, found: Sequence[Noticed], laws: Sequence[Law], problems: int
) -> None:
    """Print the mistakes that were not noticed in the subject's place, and what to do about it."""
    hidden = [each for each in found if not each.by]
    if hidden:
        table = Table("mutant", "it looks as if the implementation", "shows on")
        for each in hidden:
            mutant = each.mutant
            table.add_row(*map(Text, (mutant.name, mutant.mistake, mutant.only or "almost any")))
        console.print(table)
    console.print(
        Text(
            f"In the place of {one_line(subject, 100)}, {len(found) - len(hidden)} of {len(found)} "
            f"known mistakes were noticed, on {problems} problems of the kinds that it declares, "
            f"by the {len(laws)} of {len(LAWS)} laws that its answers allow."
        ),
        soft_wrap=True,
    )
    if hidden:
        console.print(
            Text(
                "The others could be in it and a check would pass. Answer with more than a matvec, "
                "declare more abilities, or ask about more problems (--problems)."
            ),
            soft_wrap=True,
        )
