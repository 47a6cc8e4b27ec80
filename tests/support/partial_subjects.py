"""Subjects that have no EKFAC to show: right ones, and wrong in one way each.

They are made of the package's own blocks, by adding the mistake; for tests and for reading.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.truth.cache import Content, content
from ekfac_ref.matrix.operators import BlockDiagonal

FEW = ct.Profile("few", problems=6, shrink_seconds=0.2)
LINEAR = ct.Abilities(
    layers=(nn.Linear,),
    dtypes=(torch.float64,),
    shared_weights=False,
    masks=False,
    positions=False,
)


def blocks(operator: Any) -> list[ek.Kronecker]:
    return list(operator.blocks) if isinstance(operator, BlockDiagonal) else [operator]


def each_block(change: Any) -> Any:
    """The package's KFAC with every block changed."""

    def answer(problem: ek.Problem) -> dict[str, Any]:
        found = {}
        for name, operator in kfac(problem).items():
            changed = tuple(change(block) for block in blocks(operator))
            found[name] = BlockDiagonal(changed) if len(changed) > 1 else changed[0]
        return found

    return answer


@dataclass(frozen=True, eq=False)
class Solving:
    """A KFAC block with a solve of its own."""

    block: ek.Kronecker
    solution: Any

    shape = property(lambda self: self.block.shape)

    def matvec(self, V: Tensor) -> Tensor:
        return self.block.matvec(V)

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        return self.solution(self.block, V, damping)


def solving(solution: Any) -> Any:
    return each_block(lambda block: Solving(block, solution))


def factored(block: ek.Kronecker, V: Tensor, damping: float, power: float = 1.0) -> Tensor:
    """Each factor gets its part of the damping, and is inverted by itself."""
    B, A = block.B, block.A
    pi = math.sqrt((float(A.trace()) / len(A)) / (float(B.trace()) / len(B))) ** power
    left = B + math.sqrt(damping) / pi * torch.eye(len(B)).to(B)
    right = A + math.sqrt(damping) * pi * torch.eye(len(A)).to(A)
    return torch.linalg.inv(left) @ V @ torch.linalg.inv(right)


def apart(problem: ek.Problem) -> dict[str, Any]:
    """A without what the bias's 1 has to do with the other inputs."""
    found = {}
    for name, block in kfac(problem).items():
        A = block.A
        if problem.model.get_submodule(name).bias is not None:
            A = torch.block_diag(A[:-1, :-1], A[-1:, -1:])
        found[name] = ek.Kronecker(block.B, A)
    return found


def summed(problem: ek.Problem) -> dict[str, Any]:
    """B over N twice, as of a mean loss's gradients."""
    N = sum(len(y) for _, y in problem.batches)
    return {name: block.scaled(1 / N) for name, block in kfac(problem).items()}


def by_batch(problem: ek.Problem) -> dict[str, Any]:
    """The mean of the batches' blocks, whatever their sizes."""
    found = [ek.kfac(replace(problem, batches=[batch])) for batch in problem.batches]
    return {
        name: SimpleNamespace(
            matvec=lambda V, name=name: sum(one[name].matvec(V) for one in found) / len(found)
        )
        for name in found[0]
    }


def without_nan(problem: ek.Problem) -> dict[str, Any]:
    batches = [(x.nan_to_num(), y) for x, y in problem.batches]
    return ek.kfac(replace(problem, batches=batches))


class Stale:
    """KFAC of the first problem of its shapes that it was ever asked about."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    def __call__(self, problem: ek.Problem) -> dict[str, Any]:
        fresh = ek.kfac(problem)
        key = tuple((name, operator.shape) for name, operator in fresh.items())
        old, self.kept[key] = self.kept.get(key, fresh), fresh
        return old


def problem(seed: int = 0, **choices: Any) -> ek.Problem:
    """Two Linear layers with biases, seven samples in uneven batches, three classes."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = torch.randn(7, 2).double(), torch.randint(3, (7,))
    return ek.Problem(model, [(x[:4], y[:4]), (x[4:], y[4:])], ek.Categorical(), **choices)


def broken(subject: Any, question: ek.Problem | None = None) -> set[str]:
    """Names of the laws that are broken."""
    found = ct.ask(subject, problem() if question is None else question)
    return {name for name, error in found.items() if isinstance(error, ct.LawBroken)}


def once(ask: Any) -> Any:
    """Asked about equal problems once: every product of a preconditioner is a question."""

    @lru_cache(maxsize=1024)
    def known(equal: Content) -> Any:
        return ask(equal.problem)

    return lambda problem: known(content(problem))


ekfac, kfac = once(ek.ekfac), once(ek.kfac)


def by_solve(ask: Any, damped: Any = lambda damping: damping) -> Any:
    """A preconditioner out of blocks that can solve."""

    def precondition(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        found = ask(problem)
        return {name: found[name].solve(X, damping=damped(damping)) for name, X in V.items()}

    return precondition


def of_the_mean_gradient(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
    """What an optimizer does that computes the gradient anew, whatever stands in .grad."""
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    layers = {name: problem.model.get_submodule(name) for name in V}
    weights = [p for layer in layers.values() for p in (layer.weight, layer.bias)]
    found = iter(torch.autograd.grad(nn.functional.cross_entropy(problem.model(x), y), weights))
    grads = {name: torch.cat([next(found), next(found)[:, None]], 1) for name in layers}
    return by_solve(ekfac)(problem, grads, damping)
