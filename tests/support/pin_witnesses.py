"""Which laws notice which mutant, each on a problem by hand, pinned in ``witnessed.toml``.

``python -m tests.support.pin_witnesses`` writes the file anew: for every mutant the first witness
on which all laws that it names notice it, and all laws that do. A law that is nearly broken, or
nearly not, might say something else on another machine; where there is one, another witness is
taken.
"""

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law, notices
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LIMIT, MISTAKE, LawBroken
from studies import toml
from tests.support.witnesses import witnesses

FILE = Path(__file__).parent / "witnessed.toml"
MARGIN = 3.0  # no ratio may be in doubt, or within this factor of it


@dataclass(frozen=True)
class Witnessed:
    """A witness and the names of the laws that are broken on it, sorted."""

    witness: str
    laws: tuple[str, ...]


@cache
def pinned() -> dict[str, Witnessed]:
    found = toml.loads(FILE.read_text())
    return {name: Witnessed(row["on"], tuple(row["by"])) for name, row in found.items()}


def ratio(law: Law, trial: Trial) -> float:
    """The largest that it finds, up to the first block that breaks it."""
    found = [0.0]
    try:
        found.extend(law.ask(trial))
    except LawBroken as broken:
        return broken.ratio
    return max(found)


def ratios(trial: Trial) -> dict[str, float]:
    """Of every law, asked in their order: "leaves alone" looks back on those before."""
    return {law.name: ratio(law, trial) for law in LAWS.values()}


def broken(found: dict[str, float]) -> tuple[str, ...]:
    return tuple(sorted(name for name, size in found.items() if size > MISTAKE))


def undecided(found: dict[str, float]) -> list[str]:
    near = {name: r for name, r in found.items() if LIMIT / MARGIN <= r <= MISTAKE * MARGIN}
    return [f"{name} {size:.2g}" for name, size in near.items()]


def witnessed(mutant: Mutant) -> Witnessed:
    """On the first witness that will do."""
    why_not = []
    named = [law for law in LAWS.values() if law.name in mutant.laws]
    for name, problem in witnesses().items():
        trial = Trial(mutant.subject, problem)
        if not all(notices(law, trial) for law in named):
            continue
        found = ratios(Trial(mutant.subject, problem))
        if near := undecided(found):
            why_not.append(f"{name} is near the limit of {', '.join(near)}")
        else:
            return Witnessed(name, broken(found))
    reason = "; ".join(why_not) or "its laws are broken on none"
    raise SystemExit(f"{mutant.name}: no witness will do: {reason}. Add one to witnesses.py.")


def lines() -> Iterator[str]:
    yield "# Written by python -m tests.support.pin_witnesses: mutant, witness, laws that notice."
    for mutant in MUTANTS.values():
        if not mutant.proof:
            row = witnessed(mutant)
            laws = ", ".join(f'"{law}"' for law in row.laws)
            yield f'{mutant.name} = {{ on = "{row.witness}", by = [{laws}] }}'


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    FILE.write_text("\n".join(lines()) + "\n")
    print(f"{FILE.name}: {len(pinned())} mutants", file=sys.stderr)


if __name__ == "__main__":
    main()
