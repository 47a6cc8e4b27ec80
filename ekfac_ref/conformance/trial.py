"""A subject's answers to one problem, in the form that laws are asked of."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.memory import remembered
from ekfac_ref.conformance.observation import Observation
from ekfac_ref.conformance.state import changes, snapshot
from ekfac_ref.conformance.subject import Answer, Ask, Subject
from ekfac_ref.operators import Dense
from ekfac_ref.problem import Problem


class BadAnswer(Exception):  # it is the subject's mistake, and no law's business
    """An answer that no law can be asked of: what is wrong with it, and what was expected."""


@dataclass(frozen=True, eq=False)
class Case:
    """What a subject said of one layer (one group of it), and what that layer saw.

    Attributes:
        layer: its name, with the number of the group where there are several.
        seen: by the kit's own eyes, in float64.
        E: the EKFAC block by its action on every unit vector, in float64.
        own: the operator itself, for laws that ask it for more; a group's own, if it has blocks.
        K: the KFAC block by its action, if the subject offers KFAC.
        F: the exact block by its action, if the subject offers it.
    """

    layer: str
    seen: Observation
    E: Dense
    own: Any
    K: Dense | None
    F: Dense | None


class Trial:
    """One subject, one problem, and the answers, asked for when they are needed and only once.

    ``changes`` has a line for everything that the subject changed while it answered, or failed to.
    """

    def __init__(self, subject: Subject, problem: Problem) -> None:
        self.subject, self.problem = subject, problem
        self.changes: list[str] = []

    def about(self, problem: Problem) -> "Trial":
        """The same subject on another problem."""
        return Trial(self.subject, problem)

    @cached_property
    def seen(self) -> dict[str, list[Observation]]:
        """{layer: one Observation per group}."""
        return remembered(self.problem)

    @cached_property
    def cases(self) -> list[Case]:
        """Every layer and group."""
        E = self.asked(self.subject.ekfac, "ekfac")
        K = self._if_offered(self.subject.kfac, "kfac")
        F = self._if_offered(self.subject.exact_fisher, "exact_fisher")
        return [
            case
            for name, groups in self.seen.items()
            for case in _cases(name, groups, E[name], K and K[name], F and F[name])
        ]

    def asked(self, ask: Ask, method: str) -> Answer:
        """An answer with the right layers in it, to a copy of the problem."""
        given = copied(self.problem)
        before = snapshot(given.model, given.batches)
        try:
            answer = ask(given)
        finally:
            after = snapshot(given.model, given.batches)
            self.changes += [f"{method}, {line}" for line in changes(before, after)]
        if not hasattr(answer, "keys") or set(answer) != set(self.seen):
            got = sorted(answer) if hasattr(answer, "keys") else type(answer).__name__
            raise BadAnswer(f"{method} returned {got}, expected a dict of {sorted(self.seen)}")
        return answer

    def _if_offered(self, ask: Ask | None, method: str) -> Answer | None:
        return None if ask is None else self.asked(ask, method)


def copied(problem: Problem) -> Problem:
    """A problem that the subject may do anything to."""
    batches = [tree_map(torch.clone, tuple(batch)) for batch in problem.batches]
    return replace(problem, model=copy.deepcopy(problem.model), batches=batches)


def _cases(name: str, groups: list[Observation], E: Any, K: Any, F: Any) -> list[Case]:
    parts = [_by_action(name, operator, groups) for operator in (E, K, F)]
    blocks = getattr(E, "blocks", (E,))
    own = blocks if len(blocks) == len(groups) else [None] * len(groups)
    labels = [name] if len(groups) == 1 else [f"{name}, group {k}" for k in range(len(groups))]
    rows = zip(labels, groups, own, *parts, strict=True)
    return [Case(label, seen, e, o, k, f) for label, seen, o, e, k, f in rows]


def _by_action(name: str, operator: Any, groups: list[Observation]) -> list[Any]:
    """The dense block of every group, from the operator's action alone."""
    if operator is None:
        return [None] * len(groups)
    d_out, d_in = groups[0].G[0].shape[1:]
    shape = (d_out * len(groups), d_in)
    matrix = dense_by_action(name, operator.matvec, shape, groups[0].dtype)
    P = d_out * d_in
    inside = torch.block_diag(*(matrix[k : k + P, k : k + P] for k in range(0, len(matrix), P)))
    if not torch.equal(inside, matrix):
        raise BadAnswer(
            f"layer {name!r}: its groups are coupled; every group is a block of its own"
        )
    return [Dense(matrix[k : k + P, k : k + P], (d_out, d_in)) for k in range(0, len(matrix), P)]


def dense_by_action(
    name: str, matvec: Callable[[Tensor], Any], shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """Column by column: what ``matvec`` makes of every unit vector, checked, in float64."""
    units = torch.eye(shape[0] * shape[1], dtype=dtype).reshape(-1, *shape)
    columns = []
    for V in units:
        column = matvec(V.clone())
        if not isinstance(column, Tensor):
            raise BadAnswer(
                f"layer {name!r}: matvec returned a {type(column).__name__}, not a tensor"
            )
        if tuple(column.shape) != shape:
            raise BadAnswer(
                f"layer {name!r}: matvec returned shape {list(column.shape)} for V of "
                f"{list(shape)} = [d_out, d_in], the bias among the inputs"
            )
        if not bool(torch.isfinite(column).all()):
            raise BadAnswer(f"layer {name!r}: matvec returned NaN or infinity")
        # A copy: what the next product does to this one is a law of its own.
        columns.append(column.detach().to(torch.float64, copy=True).reshape(-1))
    return torch.stack(columns, 1)
