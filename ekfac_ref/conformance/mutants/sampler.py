"""A correct subject that draws labels for itself, in the steps that mistakes are made in.

A sampled Fisher is the empirical one of the data many times over, with drawn labels. So labels are
drawn, and the rest is matrix products of that problem's taps, since its samples are thousands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.mutants.eigenpairs import eigenvectors
from ekfac_ref.conformance.truth.record import Known
from ekfac_ref.matrix.operators import BlockDiagonal, Dense, EigenKronecker, Kronecker
from ekfac_ref.model.forward import call
from ekfac_ref.model.session import open_session
from ekfac_ref.model.tapped import tapped
from ekfac_ref.model.taps import Tap
from ekfac_ref.question.columns import Empirical, Sampled
from ekfac_ref.question.likelihoods import Likelihood
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand

_BUDGET = 2**27  # bytes for a chunk of samples
_Three = tuple[Tensor, Tensor, Tensor]  # F, B and A of a group


def drawn(likelihood: Likelihood, f: Tensor, y: Tensor) -> Tensor:
    """Labels of the model's distribution, by numpy's global generator."""
    return likelihood.sample(f, y, np.random.default_rng(np.random.randint(2**31)))


def second_moment(rows: Tensor) -> Tensor:
    """(1/M) sum_m a_m a_m^T of rows [M, d]."""
    return rows.T @ rows / len(rows)


@dataclass(frozen=True)
class Sampler:
    """The sampled Fisher, its KFAC and its EKFAC.

    Attributes:
        labels: (likelihood, f, y) to labels, as y is.
        times: what F and B are multiplied by, of the number of draws.
        input_factor: A, of all rows that count.
    """

    labels: Callable[[Likelihood, Tensor, Tensor], Tensor] = drawn
    times: Callable[[int], float] = lambda draws: 1.0
    input_factor: Callable[[Tensor], Tensor] = second_moment

    def sampled_fisher(self, problem: Problem) -> Mapping[str, Any]:
        """{layer: the block F of these labels}."""
        return self._blocks(problem, lambda F, B, A: Dense(F, (len(B), len(A))))

    def sampled_kfac(self, problem: Problem) -> Mapping[str, Any]:
        """{layer: B (x) A, where B is of these labels}."""
        return self._blocks(problem, lambda F, B, A: Kronecker(B, A))

    def sampled_ekfac(self, problem: Problem) -> Mapping[str, Any]:
        """{layer: E}, with the diagonal of F in a basis of B and A."""

        def block(F: Tensor, B: Tensor, A: Tensor) -> EigenKronecker:
            Q_B, Q_A = eigenvectors(B).contiguous(), eigenvectors(A).contiguous()
            Q = torch.kron(Q_B, Q_A)
            return EigenKronecker(Q_B, Q_A, ((F @ Q) * Q).sum(0).reshape(len(B), len(A)))

        return self._blocks(problem, block)

    def _blocks(self, problem: Problem, block: Callable[..., Any]) -> Mapping[str, Any]:
        session = open_session(self._relabelled(problem), Known)
        pieces = [taps for _, taps in tapped(session, _BUDGET)]
        found = {}
        for layer in session.layers:
            several = [
                block(*self._moments([taps[layer.name][k] for taps in pieces], problem))
                for k in range(layer.groups)
            ]
            found[layer.name] = several[0] if len(several) == 1 else BlockDiagonal(tuple(several))
        return found

    def _relabelled(self, problem: Problem) -> Problem:
        """Every batch as often as labels are drawn, with these."""
        assert isinstance(problem.fisher, Sampled)
        times, batches = problem.fisher.draws, []
        for x, y in problem.batches:
            with torch.no_grad():
                f = call(problem.model, x)
            labels = [self.labels(problem.likelihood, f, y) for _ in range(times)]
            batches.append((tree_map(lambda v: torch.cat([v] * times), x), torch.cat(labels)))
        return replace(problem, batches=batches, fisher=Empirical())

    def _moments(self, taps: list[Tap], problem: Problem) -> _Three:
        N, expand = sum(len(one.a) for one in taps), isinstance(problem.sharing, Expand)
        assert isinstance(problem.fisher, Sampled)
        times, zero = self.times(problem.fisher.draws) / N, torch.zeros(())
        G = [torch.einsum("ncto,nti->ncoi", one.g, one.a).flatten(0, 1).flatten(1) for one in taps]
        g = [(one.g if expand else one.g.sum(2)).flatten(0, -2) for one in taps]
        F, B = (times * sum((v.T @ v for v in rows), zero) for rows in (G, g))
        return F, B, self.input_factor(torch.cat([_inputs(one, expand) for one in taps]))


def _inputs(seen: Tap, expand: bool) -> Tensor:
    """Rows of A, by the sharing."""
    counted = seen.counted
    if counted is None:
        counted = torch.ones(seen.a.shape[:2], dtype=torch.bool)
    if expand:
        return seen.a[counted]
    sums = torch.einsum("nti,nt->ni", seen.a, counted.to(seen.a))
    return (sums / counted.sum(1, True).clamp(min=1))[counted.any(1)]
