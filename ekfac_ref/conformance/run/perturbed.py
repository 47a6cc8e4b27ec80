"""A subject made wrong on purpose, by as little as one likes: how small an error do laws see?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.matrices import dense_by_action, own_blocks
from ekfac_ref.conformance.subjects.placed import put_together
from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.conformance.truth.cache import remembered
from ekfac_ref.question.problem import Problem

# (matrix, relative error, seed) to a matrix that is off by the error, relative to its norm.
Spoil = Callable[[Tensor, float, int], Tensor]


@dataclass(frozen=True)
class Blur:
    """One kind of error.

    Attributes:
        spoil: what becomes of every matrix: E's own, Q_B, Q_A, Lambda, what solve returns.
        every_product: of each product E V anew, instead of E once.
    """

    spoil: Spoil
    every_product: bool = False


def larger(M: Tensor, error: float, seed: int) -> Tensor:
    """M (1 + error)."""
    return M * (1 + error)


def elsewhere(M: Tensor, error: float, seed: int) -> Tensor:
    """M + error |M| Z with a random Z of norm 1."""
    Z = torch.randn(M.shape, generator=torch.Generator().manual_seed(seed)).to(M)
    return M + Z * (error * M.norm() / Z.norm())


def lost(M: Tensor, error: float, seed: int) -> Tensor:
    """M without its singular values up to error |M|."""
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    return (U * torch.where(s > error * M.norm(), s, 0)) @ Vh


BLURS = (
    Blur(larger),
    Blur(elsewhere),
    Blur(elsewhere, every_product=True),
    Blur(lost),
)


def blurred(subject: Subject, blur: Blur, error: float) -> Subject:
    """The subject, every answer of it off by a relative error."""
    seeds = count()

    def spoil(own: Any, blocks: list[Block]) -> Any:
        if isinstance(own, Tensor):  # preconditioned; the same error for the same question
            return blur.spoil(own.double(), error, 0).to(own)
        parts = [_Blurred(part, blur, error, seeds) for part in own_blocks(own, blocks)]
        return put_together(parts, blocks)

    def spoilt(ask: Ask) -> Ask:
        def answer(problem: Problem) -> Answer:
            found = ask(problem)
            blocks = subject.definition.blocks(problem, remembered(problem))
            return {name: spoil(own, blocks[name]) for name, own in found.items()}

        return answer

    return subject.wrapped(spoilt)


class _Blurred:
    """An operator of one block, spoilt; it has what the operator has."""

    def __init__(self, own: Any, blur: Blur, error: float, seeds: Iterator[int]) -> None:
        self._own, self._blur, self._error, self._seeds = own, blur, error, seeds
        self._seed = next(seeds)
        self._matrix: Tensor | None = None

    def matvec(self, V: Tensor) -> Tensor:
        if self._blur.every_product:
            return self._spoilt(self._own.matvec(V), next(self._seeds))
        if self._matrix is None:
            d_out, d_in = V.shape
            exact = dense_by_action("", self._own.matvec, (d_out, d_in), V.dtype)
            self._matrix = self._spoilt(exact, self._seed)
        return (self._matrix @ V.double().reshape(-1)).reshape(V.shape).to(V)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "blocks":
            raise AttributeError(name)
        found = getattr(self._own, name)
        if isinstance(found, Tensor):
            return self._spoilt(found, self._seed)
        if name == "solve":  # the same error for the same question
            return lambda V, *, damping: self._spoilt(found(V, damping=damping), self._seed)
        return found

    def _spoilt(self, M: Tensor, seed: int) -> Tensor:
        return self._blur.spoil(M.double(), self._error, seed).to(M)
