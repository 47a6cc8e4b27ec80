"""A correct subject that draws labels for itself, in the steps that mistakes are made in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.recipe import eigenvectors
from ekfac_ref.matrix.operators import BlockDiagonal, Dense, EigenKronecker, Kronecker
from ekfac_ref.model.gradients import gradients
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.model.taps import Tap, tap
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.columns import Sampled
from ekfac_ref.question.likelihoods import Categorical, Likelihood
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand

_BUDGET = 2**27  # bytes for a chunk of gradients
_Groups = dict[str, list[Tensor]]  # of every layer, one for each group


def labels_by(likelihood: Likelihood, f: Tensor, y: Tensor, numbers: Any) -> Tensor:
    """Labels of all samples by random numbers of this kind."""
    if isinstance(likelihood, Categorical):  # whose own draw is for one sample
        f = f.movedim(likelihood.class_axis, -1)
        likelihood = Categorical(-1, likelihood.ignore_index)
    return likelihood.sample(f, y, numbers)


def drawn(likelihood: Likelihood, f: Tensor, y: Tensor) -> Tensor:
    """Labels of the model's distribution, by numpy's global generator."""
    return labels_by(likelihood, f, y, np.random.default_rng(np.random.randint(2**31)))


def second_moment(rows: Tensor) -> Tensor:
    """(1/M) sum_m a_m a_m^T of rows [M, d]."""
    return rows.T @ rows / len(rows)


@dataclass(frozen=True)
class Sampler:
    """The sampled Fisher, its KFAC and its EKFAC, whose basis has labels of other draws.

    Attributes:
        labels: (likelihood, f, y) to labels, as y is.
        scale: of the scores, of the number of draws.
        input_factor: A, of all rows that count.
    """

    labels: Callable[[Likelihood, Tensor, Tensor], Tensor] = drawn
    scale: Callable[[int], float] = lambda draws: draws**-0.5
    input_factor: Callable[[Tensor], Tensor] = second_moment

    def sampled_fisher(self, problem: Problem) -> Mapping[str, Any]:
        """{layer: its block F}."""
        F, shapes = self._fisher(problem)
        return {
            name: _whole([Dense(F_k, shapes[name]) for F_k in of_layer])
            for name, of_layer in F.items()
        }

    def sampled_kfac(self, problem: Problem) -> Mapping[str, Any]:
        """{layer: B (x) A}."""
        B, A = self._factors(problem)
        return {name: _whole([*map(Kronecker, B[name], A[name])]) for name in B}

    def sampled_ekfac(self, problem: Problem) -> Mapping[str, Any]:
        """{layer: E}, with the diagonal of F in a basis of B and A."""
        (F, shapes), (B, A) = self._fisher(problem), self._factors(problem)
        found = {}
        for name, of_layer in F.items():
            blocks = []
            for F_k, B_k, A_k in zip(of_layer, B[name], A[name], strict=True):
                Q_B, Q_A = eigenvectors(B_k), eigenvectors(A_k)
                Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
                eigenvalues = (Q.T @ F_k @ Q).diagonal().reshape(shapes[name])
                blocks.append(EigenKronecker(Q_B, Q_A, eigenvalues))
            found[name] = _whole(blocks)
        return found

    def columns(self, problem: Problem, f: Tensor, y: Tensor) -> Tensor:
        """S_n, [N, draws, *out]."""
        assert isinstance(problem.fisher, Sampled)
        draws, likelihood = problem.fisher.draws, problem.likelihood
        scores = [likelihood.score(f, self.labels(likelihood, f, y)) for _ in range(draws)]
        return torch.stack(scores, 1) * self.scale(draws)

    def _fisher(self, problem: Problem) -> tuple[_Groups, dict[str, tuple[int, int]]]:
        session = open_session(problem, partial(_Drawing, self))
        F, shapes, N = _Groups(), {}, 0
        for run in gradients(session, _BUDGET):
            for layer in session.layers:
                parts = run[layer.name].chunk(layer.groups, 2)
                shapes[layer.name] = (parts[0].shape[2], parts[0].shape[3])
                squares = [v.T @ v for v in (G.flatten(0, 1).flatten(1) for G in parts)]
                before = F.get(layer.name, [torch.zeros_like(one) for one in squares])
                F[layer.name] = [x + one for x, one in zip(before, squares, strict=True)]
            N += len(parts[0])
        return {name: [F_k / N for F_k in of_layer] for name, of_layer in F.items()}, shapes

    def _factors(self, problem: Problem) -> tuple[_Groups, _Groups]:
        session = open_session(problem, partial(_Drawing, self))
        taps = [tap(session, form, batch) for batch, form in session.batches()]
        B, A = _Groups(), _Groups()
        for layer in session.layers:
            of_groups = [[of[layer.name][k] for of in taps] for k in range(layer.groups)]
            pairs = [[_rows(one, problem) for one in of_group] for of_group in of_groups]
            N = sum(len(one.a) for one in of_groups[0])
            B[layer.name] = [sum((g.T @ g for _, g in rows), torch.zeros(())) / N for rows in pairs]
            A[layer.name] = [self.input_factor(torch.cat([a for a, _ in rows])) for rows in pairs]
        return B, A


class _Drawing(Session):
    """Its columns are those of labels that a sampler draws."""

    def __init__(self, sampler: Sampler, *others: Any) -> None:
        super().__init__(*others)
        self._sampler = sampler

    def columns(self, f: Tensor, batch: Batch) -> Tensor:
        """[N, draws, *out]; what is refused is refused by the labels of the data."""
        super().columns(f, batch)
        return self._sampler.columns(self.problem, f, batch.targets)


def _rows(seen: Tap, problem: Problem) -> tuple[Tensor, Tensor]:
    """(rows of A, rows of B), by the problem's sharing."""
    counted = seen.counted
    if counted is None:
        counted = torch.ones(seen.a.shape[:2], dtype=torch.bool)
    if isinstance(problem.sharing, Expand):
        return seen.a[counted], seen.g.flatten(0, 2)
    weights = counted.to(seen.a)
    means = torch.einsum("nti,nt->ni", seen.a, weights) / weights.sum(1, True).clamp(min=1)
    return means[counted.any(1)], seen.g.sum(2).flatten(0, 1)


def _whole(blocks: list[Any]) -> Any:
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(tuple(blocks))
