"""A subject made wrong on purpose, by as little as one likes: how small an error do laws see?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.matrices import matrix_by_products, own_blocks, real
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.subjects.placed import put_together
from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.conformance.training.steps import Optimize, values
from ekfac_ref.conformance.truth.cache import content, observed
from ekfac_ref.question.problem import Problem

# (matrix, relative error, seed) to a matrix that is off by the error, relative to its norm.
_Change = Callable[[Tensor, float, int], Tensor]


@dataclass(frozen=True)
class Perturbation:
    """One kind of error.

    Attributes:
        change: what becomes of every matrix: E's own, Q_B, Q_A, Lambda, what solve returns.
        every_product: of each product E V anew, instead of E once.
    """

    change: _Change
    every_product: bool = False


def larger(M: Tensor, error: float, seed: int) -> Tensor:
    """Every entry too large by the error: M (1 + error)."""
    return M * (1 + error)


def moved(M: Tensor, error: float, seed: int) -> Tensor:
    """M + error |M| Z with a random Z of norm 1."""
    Z = torch.randn(M.shape, generator=torch.Generator().manual_seed(seed)).to(M)
    return M + Z * (error * M.norm() / Z.norm())


def truncated(M: Tensor, error: float, seed: int) -> Tensor:
    """M without its singular values up to error |M|."""
    U, s, Vh = torch.linalg.svd(M.reshape(len(M), -1), full_matrices=False)
    return ((U * torch.where(s > error * M.norm(), s, 0)) @ Vh).reshape(M.shape)


PERTURBATIONS = (
    Perturbation(larger),
    Perturbation(moved),
    Perturbation(moved, every_product=True),
    Perturbation(truncated),
)


def perturbed(subject: Subject, kind: Perturbation, error: float) -> Subject:
    """A copy of the subject, every answer of it off by a relative error of this kind."""
    seeds = count()

    def off(own: Any, blocks: list[Block], problem: Problem) -> Any:
        if isinstance(own, Tensor):  # no operator; the same error for the same question
            seed = int.from_bytes(content(problem).digest[:4], "big")
            return kind.change(real("", "the answer", own).double(), error, seed).to(own)
        parts = [
            _perturbed_block(Own(part, "", block.seen.shape), kind, error, seeds)
            for part, block in zip(own_blocks(own, blocks), blocks, strict=True)
        ]
        return put_together(parts, blocks)

    def wrap(ask: Ask) -> Ask:
        def answer(problem: Problem) -> Answer:
            found = ask(problem)
            blocks = subject.definition.blocks(problem, observed(problem))
            if not hasattr(found, "keys") or set(found) != set(blocks):
                return found  # whoever asked says what is wrong with it
            return {name: off(own, blocks[name], problem) for name, own in found.items()}

        return answer

    changed = subject.wrapped(wrap)
    if changed.optimizer is None:
        return changed
    return replace(changed, optimizer=_perturbed_steps(changed.optimizer, kind, error))


def _perturbed_steps(optimizer: Optimize, kind: Perturbation, error: float) -> Optimize:
    """Every move of every parameter off."""

    def optimize(problem: Problem, settings: Hyperparameters) -> Iterator[None]:
        before = values(problem)
        for step, _ in enumerate(optimizer(problem, settings)):
            with torch.no_grad():
                for name, parameter in problem.model.named_parameters():
                    move = (parameter - before[name]).double()
                    move = kind.change(move, error, step)
                    parameter.copy_((before[name].double() + move).to(parameter.dtype))
            before = values(problem)
            yield

    return optimize


def _perturbed_block(
    own: Own, kind: Perturbation, error: float, seeds: Iterator[int]
) -> SimpleNamespace:
    """What the block's operator offers, every tensor off; each in the same way at every question,
    but for products where the kind says so.
    """
    seed = next(seeds)

    def off(M: Tensor, seed: int = seed) -> Tensor:
        return kind.change(M.double(), error, seed).to(M)

    @cache
    def matrix(shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        return off(matrix_by_products("", own.matvec, shape, dtype))

    def matvec(V: Tensor) -> Tensor:
        if kind.every_product:
            return off(own.matvec(V), next(seeds))
        M = matrix((V.shape[0], V.shape[1]), V.dtype)
        return (M @ V.double().reshape(-1)).reshape(V.shape).to(V)

    block = SimpleNamespace(matvec=matvec)
    if own.shows_its_basis:
        block.Q_B, block.Q_A, block.eigenvalues = map(off, own.basis())
    if own.shows_its_factors:
        block.B, block.A = off(own.operator.B), own.operator.A
    if own.solves:
        block.solve = lambda V, *, damping: off(own.solve(V, damping=damping))
    return block
