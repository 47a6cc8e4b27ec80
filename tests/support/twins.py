"""Mutants that nobody could tell apart: all that they say and do is the same on every witness."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from ekfac_ref.conformance.diagnosis.training import trainings
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.answered import Case
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem
from tests.support.pin_witnesses import pinned
from tests.support.witnesses import witnesses

SAME = 1e-6  # relative, in float64: far above rounding
AT_THE_END = ("nan", "unknown layer", "batch norm", "after an exception")

Said = tuple[list[Tensor], list[str]]


def twins(mutants: Sequence[Mutant]) -> list[list[str]]:
    """Names of mutants that no witness tells apart, in groups of two or more.

    Whoever has been told apart is not tried again, and witnesses of many mutants come first: that
    makes it quick.
    """
    groups, pins = [[*mutants]], Counter(row.witness for row in pinned().values())
    for _, problem in sorted(witnesses().items(), key=lambda item: -pins[item[0]]):
        groups = _split(groups, lambda mutant, problem=problem: _said(mutant, problem))
    groups = _split(groups, _said_at_the_end)
    return [[mutant.name for mutant in group] for group in groups]


def _split(groups: list[list[Mutant]], ask: Callable[[Mutant], Said]) -> list[list[Mutant]]:
    """Every group parted by what its mutants say; without those who are alone then."""
    found = []
    for group in groups:
        parts: list[tuple[Said, list[Mutant]]] = []
        for mutant in group:
            said = ask(mutant)
            alike = next((part for other, part in parts if _same(said, other)), None)
            if alike is None:
                parts.append((said, [mutant]))
            else:
                alike.append(mutant)
        found += [part for _, part in parts if len(part) > 1]
    return found


def _said(mutant: Mutant, problem: Problem) -> Said:
    """Matrices, products, solutions; and what has changed meanwhile."""
    trial = Trial(mutant.subject, problem)
    numbers = [x for case in trial.cases for x in _numbers(case)]
    numbers += [one.matrix for one in trial.drawn.answers]
    return [*numbers, *_trained(trial)], trial.changes


def _trained(trial: Trial) -> Iterator[Tensor]:
    """Where an optimizer leads to, twice."""
    for settings in [*trainings(trial)] * 2 if trial.subject.optimizer else ():
        again = trial.about(trial.problem)
        yield torch.cat([x.flatten() for x in again.trained(3, settings).values[-1].values()])


def _numbers(case: Case) -> Iterator[Tensor]:
    """Of E all that it says; of K and F the matrix."""
    yield from (block.matrix for block in case.operators)
    E = case.E
    if E is None:
        return
    methods = [E.own.matvec]
    if E.own.solves:
        methods += [lambda V, d=damping: E.own.solve(V, damping=d) for damping in (1e-6, 1.0)]
    for method in methods:
        V = E.random(0).double()
        given = V.clone()
        answer = method(given)
        yield from (given, answer.clone(), method(-V), answer)


def _said_at_the_end(mutant: Mutant) -> Said:
    """Where an exception is due: whether there is one, and what comes of another one."""
    trial = Trial(mutant.subject, next(iter(witnesses().values())))
    return [], [_broken(LAWS[name], trial) for name in AT_THE_END]


def _broken(law: Law, trial: Trial) -> str:
    """What it says; "" if it holds."""
    try:
        list(law.ask(trial))
    except LawBroken as error:
        return str(error)
    return ""


def _same(one: Said, other: Said) -> bool:
    """Whether they are equal up to rounding, and neither offers more than the other."""
    if one[1] != other[1]:
        return False
    pairs = zip_longest(one[0], other[0], fillvalue=torch.zeros(0))
    return all(x.shape == y.shape and bool((x - y).norm() <= SAME * y.norm()) for x, y in pairs)
