"""A subject's answers to one problem, in the form that laws are asked of."""

import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.subjects.answered import Answered, Case
from ekfac_ref.conformance.subjects.damping import Tikhonov
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.matrices import (
    BadAnswer,
    checked,
    entries,
    extent,
    matrices_of_blocks,
    own_blocks,
)
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.subjects.preconditioned import Preconditioned, Vectors, at_random
from ekfac_ref.conformance.subjects.snapshot import differences, snapshot
from ekfac_ref.conformance.subjects.subject import OPERATORS, Answer, Ask, Subject
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed, observed_exactly
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.conformance.truth.tolerance import fisher_scale
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.question.columns import Empirical
from ekfac_ref.question.problem import Problem

DAMPINGS = (1e-6, 1.0)  # at 1 a damping that is squared, or its root, looks right


@dataclass(frozen=True, eq=False)
class Solved:
    """What ``precondition`` made of V in one layer: x, and once more ``again``. In float64."""

    damping: float
    V: Tensor
    x: Tensor
    again: Tensor


class Trial:
    """One subject, one problem, and the answers, asked for when they are needed and only once.

    ``changes`` has a line for everything that the subject changed while it answered, or failed to.

    Args:
        subject: on trial.
        problem: the question; the subject gets copies of it.
        seen: {layer: one Observation per group} where it is known; else the problem is observed.
    """

    def __init__(
        self, subject: Subject, problem: Problem, seen: Observations | None = None
    ) -> None:
        self.subject, self.problem, self._seen = subject, problem, seen
        self.changes: list[str] = []

    def about(self, problem: Problem) -> "Trial":
        """A trial of this subject on a changed problem, which has the same layers.

        What those saw of it is taken to be what they saw of this one: no law between two answers
        asks for more than the shapes, and looking takes longer than most subjects do.
        """
        return Trial(self.subject, problem, self.seen)

    @cached_property
    def seen(self) -> Observations:
        """{layer: one Observation per group}, whatever the subject makes of them."""
        return observed(self.problem) if self._seen is None else self._seen

    @cached_property
    def blocks(self) -> dict[str, list[Block]]:
        """{layer: its blocks}, as the subject's definition has them."""
        return self.subject.definition.blocks(self.problem, self.seen)

    @cached_property
    def cases(self) -> list[Case]:
        """Every block of every layer."""
        if self.inverse is not None:
            return self._inverted(self.inverse)
        asked = {way: self.asked(ask, way) for way, ask in self.subject.operators.items()}
        return [
            case
            for name, blocks in self.blocks.items()
            for case in self._cases(name, blocks, {way: of[name] for way, of in asked.items()})
        ]

    @cached_property
    def inverse(self) -> Preconditioned | None:
        """What a preconditioner makes of vectors, where the subject shows no matrix beside it."""
        if self.subject.precondition is None or self.subject.operators:
            return None
        labelled = replace(self.problem, fisher=Empirical())
        return Preconditioned(self.solved, self.blocks, lambda: observed_exactly(labelled))

    @cached_property
    def preconditioned(self) -> dict[str, list[Solved]]:
        """{layer: what ``precondition`` says at DAMPINGS}, with nothing in it if there is none.

        The gradients are random numbers, of all layers at once.
        """
        if self.subject.precondition is None:
            return {}
        V = at_random(self.blocks, seed=3)
        twice = {damping: [self.solved(V, damping) for _ in range(2)] for damping in DAMPINGS}
        return {
            name: [
                Solved(damping, given.double(), x[name], again[name])
                for damping, (x, again) in twice.items()
            ]
            for name, given in self._as_given(V).items()
        }

    def solved(self, V: Vectors, damping: float) -> Vectors:
        """What ``precondition`` makes of V, checked."""
        return self._precondition(self._as_given(V), damping)

    def _as_given(self, V: Vectors) -> Vectors:
        """V in the dtype of the algebra."""
        dtype = algebra_dtype(self.problem.dtype)
        return {name: x.to(dtype) for name, x in V.items()}

    def _inverted(self, P: Preconditioned) -> list[Case]:
        """Cases with E = P^-1 - d I, where P is written out, positive, and of an EKFAC."""
        d, of_ekfac = P.damping, isinstance(self.subject.definition.damping, Tikhonov)
        cases = []
        for name, blocks in self.blocks.items():
            whole = P.matrices[name] if P.matrices is not None and of_ekfac else None
            for block, of in zip(blocks, entries(blocks), strict=True):
                inverted = None if whole is None else _inverted(whole[of][:, of], block.seen, d)
                title = ", ".join(filter(None, (name, block.name)))
                cases.append(Case(title, block.seen, inverted=inverted))
        return cases

    def asked(self, ask: Ask, method: str) -> Answer:
        """An answer with the right layers in it, to a copy of the problem."""
        given = copied(self.problem)
        before = snapshot(given.model, given.batches)
        try:
            answer = ask(given)
        finally:
            after = snapshot(given.model, given.batches)
            self.changes += [f"{method}, {line}" for line in differences(before, after)]
        if not hasattr(answer, "keys") or set(answer) != set(self.seen):
            got = sorted(answer) if hasattr(answer, "keys") else type(answer).__name__
            raise BadAnswer(f"{method} returned {got}, expected a dict of {sorted(self.seen)}")
        return answer

    def _cases(self, name: str, blocks: list[Block], operators: dict[str, Any]) -> list[Case]:
        """The blocks of one layer, out of {way: its operator}."""
        titles = [", ".join(filter(None, (name, block.name))) for block in blocks]
        by_way: dict[str, list[Answered]] = {}
        for way, operator in operators.items():
            damping = self.subject.definition.damping if way == "kfac" else Tikhonov()
            matrices = matrices_of_blocks(name, operator, blocks)
            rows = zip(blocks, titles, matrices, own_blocks(operator, blocks), strict=True)
            by_way[way] = [
                Answered(way, b.seen, dense.matrix, Own(own, title, b.seen.shape), damping)
                for b, title, dense, own in rows
            ]
        none: list[None] = [None] * len(blocks)
        columns = zip(titles, blocks, *(by_way.get(way, none) for way in OPERATORS), strict=True)
        return [Case(title, block.seen, *several) for title, block, *several in columns]

    def _precondition(self, gradients: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
        precondition = self.subject.precondition
        assert precondition is not None
        given = {name: V.clone() for name, V in gradients.items()}
        answer = self.asked(lambda problem: precondition(problem, given, damping), "precondition")
        for name, V in gradients.items():
            if name not in given or not torch.equal(given[name], V):
                self.changes.append(f"precondition, gradients of {name!r}: changed")
        asked = "for gradients of"
        return {
            name: checked(name, "precondition", answer[name], asked, extent(blocks)).to(
                torch.float64, copy=True
            )
            for name, blocks in self.blocks.items()
        }


def copied(problem: Problem) -> Problem:
    """A problem that the subject may do anything to."""
    batches = [tree_map(torch.clone, tuple(batch)) for batch in problem.batches]
    return replace(problem, model=copy.deepcopy(problem.model), batches=batches)


def _inverted(P: Tensor, seen: Observation, damping: float) -> Answered | None:
    """E = P^-1 - d I; None where P is singular, which a law of P says.

    A right P is off by roundings of (|E| + d) / d^2, hence E by (|E| + d) / d times roundings of
    |E| + d: by so many is it blurred. The largest eigenvalue of E is none above F's.
    """
    inverse, singular = torch.linalg.inv_ex(P)
    if int(singular) or not bool(torch.isfinite(inverse).all()):
        return None
    F = oracle.fisher(seen)
    largest, scale = float(torch.linalg.matrix_norm(F, 2)), fisher_scale(seen)
    blur = (largest + damping) / damping * (1 + damping / scale)
    way = f"precondition, E = P^-1 - d I at d = {damping:g}, known to {blur:.2g} roundings"
    E = inverse - damping * torch.eye(len(P), dtype=P.dtype)
    seen = replace(seen, blur=blur)
    return Answered(way, seen, E, Own(None, "", seen.shape))
