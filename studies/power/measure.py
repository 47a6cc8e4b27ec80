"""How strong the laws are: every mutant against every law.

A mutant that no law notices means that a law is missing, or that the mutant is equivalent; and a
law that only large errors break is worth little. Both are measured on the mixtures that
``ekfac-ref check`` draws behind its plainer problems; these show the same in fewer. What laws say
of correct subjects is counted in ``numerics``.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import torch

from ekfac_ref import conformance as ct
from ekfac_ref.conformance.laws.law import asked
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS
from ekfac_ref.conformance.run.resolution import once, resolution
from ekfac_ref.conformance.run.shrink import shrink
from ekfac_ref.conformance.run.tally import Tally
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.cache import observed
from ekfac_ref.question.problem import Problem
from studies.power.result import OneSet, Size

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def notice(
    name: str, seed: int, problems: int, shrink_seconds: float, laws: Collection[str]
) -> OneSet:
    """Which of these laws notice a mutant on one set of problems, and on which problem first.

    A law that has noticed it is not asked again. For ``shrink_seconds`` the problem of the first of
    them is made smaller.
    """
    subject = ct.MUTANTS[name].subject
    tallies = {law.name: Tally(law) for law in ct.LAWS.values() if law.name in laws}
    first: dict[str, int] = {}
    for number, problem in enumerate(_drawn(subject.abilities, problems, seed), start=1):
        trial = Trial(subject, problem)
        for law in [law for law in tallies if law not in first]:
            tallies[law].ask(trial)
            if tallies[law].broken:
                first[law] = number
        if len(first) == len(tallies):
            break
    if not first:
        return OneSet(name, seed, first, None)
    tally = tallies[min(first, key=first.__getitem__)]
    assert tally.broken is not None
    for found in shrink(tally.law, subject, tally.broken, shrink_seconds, seed):
        tally.keep(found)
    return OneSet(name, seed, first, size(tally.broken.problem.rebuilt))


def size(problem: Problem) -> Size:
    """How much of a problem there is to read; bias included, blocks of a group counted together."""
    seen = observed(problem)
    numbers = [len(groups) * groups[0].G[0][0].numel() for groups in seen.values()]
    return Size(len(numbers), sum(len(y) for _, y in problem.batches), max(numbers))


@dataclass(frozen=True)
class Resolutions:
    """On one problem, the smallest relative errors that laws notice.

    Attributes:
        laws: {law that bounds a residual: of whichever kind of error it notices best}.
        scale: of a wrong scale, by laws that need only a matvec; 0 where E = 0, which has none.
    """

    laws: dict[str, float]
    scale: float


def resolutions(path: str, dtype: str, number: int, problems: int) -> Resolutions:
    """Of the laws on problem ``number`` of a set: the subject is made wrong by less and less."""
    subject = once(ct.load(path))
    problem = _drawn(ct.Abilities(dtypes=(DTYPES[dtype],)), problems, 0)[number]
    trial = Trial(subject, problem)
    laws = [law for law in ct.LAWS.values() if law.measures and asked(law, trial)]
    found = {law.name: resolution(law, subject, problem) for law in laws}
    of_scale = [
        resolution(law, subject, problem, PERTURBATIONS[:1])
        for law in laws
        if law.name in _OF_SCALE
    ]
    silent = not any(case.E and case.E.matrix.any() for case in trial.cases)
    return Resolutions(found, 0.0 if silent else min(of_scale))


_OF_SCALE = {"trace", "moments", "self-projection"}  # laws of a matvec, asked of every problem


@lru_cache(maxsize=2)  # a worker is asked about the same ones for every mutant
def _drawn(abilities: ct.Abilities, count: int, seed: int) -> list[Problem]:
    return mixtures(abilities, count, seed)
