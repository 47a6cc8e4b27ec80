"""Eigenvectors of something else than A and B."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tests.kit.remade.by_batch import average, factors_by_batch, mean
from tests.kit.remade.hooked import Caught, Recipe, eigenvectors, factor_A, factor_B, second_moment


def bases(Q: Callable[[Tensor], Tensor]) -> Recipe:
    return Recipe(Q_A=Q, Q_B=Q)


def with_A(A: Callable[[Caught], Tensor]) -> Recipe:
    return Recipe(A=A)


def packed(factor: Tensor) -> Tensor:
    Q = eigenvectors(factor)
    return torch.triu(Q) + torch.triu(Q, 1).T


def scaled_by_roots(factor: Tensor) -> Tensor:
    w, Q = torch.linalg.eigh(factor)
    return Q @ torch.diag(w.clamp(min=0).sqrt())


def of_correlations(factor: Tensor) -> Tensor:
    d = factor.diagonal().sqrt()
    d = torch.where(d > 0, d, 1)
    return eigenvectors(factor / d / d[:, None])


def of_halves(factor: Tensor) -> Tensor:
    half = len(factor) // 2
    return torch.block_diag(eigenvectors(factor[:half, :half]), eigenvectors(factor[half:, half:]))


def bias_apart(A: Tensor) -> Tensor:
    apart = A.clone()
    apart[-1, :-1] = apart[:-1, -1] = 0
    return apart


def with_a_gradient(s: Caught) -> Tensor:
    rows = s.a[(s.g != 0).any(-1).any(1)]
    return second_moment(rows) if len(rows) else factor_A(s)


def without_the_last_batch(s: Caught) -> Caught:
    rest = s.batch != s.batch[-1]
    return s.of(rest) if rest.any() else s


def where_labelled(s: Caught) -> Tensor:
    if s.labelled is None or s.labelled.shape != s.a.shape[:2]:
        return factor_A(s)
    return second_moment(s.a[s.labelled])


BASIS = {
    "eigenvectors-as-rows": bases(lambda M: eigenvectors(M).T),
    "input-eigenvectors-as-rows": Recipe(Q_A=lambda M: eigenvectors(M).T),
    "output-eigenvectors-as-rows": Recipe(Q_B=lambda M: eigenvectors(M).T),
    "identity-basis": bases(lambda M: torch.eye(len(M)).to(M)),
    "eigenvectors-packed": bases(packed),
    "eigenvectors-scaled": bases(scaled_by_roots),
    "basis-of-centred-inputs": with_A(
        lambda s: s.a.flatten(0, 1).T.cov(correction=0).reshape(s.a.shape[2], s.a.shape[2])
    ),
    "basis-of-correlations": bases(of_correlations),
    "basis-in-half-precision": bases(lambda M: eigenvectors(M.bfloat16().to(M))),
    "eigenvectors-of-halves": bases(of_halves),
    "scalar-inverted": bases(lambda M: 1 / M.clamp(min=1e-3) if len(M) == 1 else eigenvectors(M)),
    "damping-on-every-entry": bases(lambda M: eigenvectors(M + 0.01 * M.diagonal().mean())),
    "bias-apart": with_A(lambda s: bias_apart(factor_A(s)) if s.biased else factor_A(s)),
    "bias-where-none-is": with_A(lambda s: factor_A(s) if s.biased else bias_apart(factor_A(s))),
    "reduce-for-expand": Recipe(
        A=lambda s: second_moment(s.a.mean(1)),
        B=lambda s: second_moment(s.g.sum(2).flatten(0, 1)),
    ),
    "inputs-where-there-is-a-gradient": with_A(with_a_gradient),
    "labelled-positions-only": with_A(where_labelled),
    "output-factor-of-one-column": Recipe(B=lambda s: factor_B(replace(s, g=s.g[:, :1]))),
    "output-factor-of-the-sum-of-columns": Recipe(
        B=lambda s: factor_B(replace(s, g=s.g.sum(1, keepdim=True)))
    ),
    "basis-of-the-first-batch": factors_by_batch(lambda parts: parts[0]),
    "basis-without-the-last-batch": Recipe(
        A=lambda s: factor_A(without_the_last_batch(s)),
        B=lambda s: factor_B(without_the_last_batch(s)),
    ),
    "factors-by-mean-of-batch-means": factors_by_batch(mean),
    "factors-by-running-average": factors_by_batch(average(0.9)),
}
