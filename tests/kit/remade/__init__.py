"""Mistakes of the catalogue made again by hand, in one to three lines, in the example of hooks.

Nothing of the catalogue is used to make them. Where a mistake has a size, like a decay of 0.9, it
is the catalogue's: with another one it would be another matrix.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.adapter import adapted
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.examples import hooks
from tests.kit.remade.hooked import Caught, Recipe, columns, factor_A, factor_B, mean_square


def subject(recipe: Recipe) -> Subject:
    """The example of hooks, made in this way."""
    return Subject("hooks by hand", adapted(recipe), abilities=hooks.abilities)


def square_each_position(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    g, a = (s.g @ Q_B).square(), (s.a @ Q_A).square()
    return torch.einsum("ncto,nti->oi", g, a) / len(s)


def mean_of_batch_means(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return torch.stack([mean_square(R[s.batch == b]) for b in s.batch.unique()]).mean(0)


def scaled_by_roots(factor: Tensor) -> Tensor:
    w, Q = torch.linalg.eigh(factor)
    return Q @ torch.diag(w.clamp(min=0).sqrt())


def running_average(factor: Callable[[Caught], Tensor]) -> Callable[[Caught], Tensor]:
    def averaged(s: Caught) -> Tensor:
        first, *rest = map(factor, s.batches())
        for more in rest:
            first = 0.9 * first + 0.1 * more
        return first

    return averaged


def bias_first(s: Caught) -> Caught:
    return replace(s, a=s.a.roll(1, -1)) if s.biased else s


def root_transposed(likelihood: ek.Likelihood, fisher: ek.Exact, f: Tensor, y: Tensor) -> Tensor:
    """Of diag(sqrt p) (I - 1 p^T), one column for every position and class of a softmax."""
    if not isinstance(likelihood, ek.Categorical) or isinstance(fisher, ek.Empirical):
        return columns(likelihood, fisher, f, y)
    classes_last = f.movedim(likelihood.class_axis, -1)
    p = classes_last.reshape(len(f), -1, f.shape[likelihood.class_axis]).softmax(-1)
    N, T, K = p.shape
    rows = (p.sqrt()[..., :, None] * (torch.eye(K).to(p) - p[..., None, :])).mT
    S = p.new_zeros(N, T, K, T, K)
    for t in range(T):
        S[:, t, :, t] = rows[:, t] * likelihood.counted(y).reshape(N, T, 1, 1)[:, t]
    S = S.reshape(N, T * K, *classes_last.shape[1:])
    return S.movedim(-1, likelihood.class_axis % f.dim() + 1)


REMADE: dict[str, Recipe] = {
    "unbiased": Recipe(then=lambda Lambda, s: Lambda * len(s) / max(len(s) - 1, 1)),
    "square-each-position": Recipe(Lambda=square_each_position),
    "lambda-by-mean-of-batch-means": Recipe(Lambda=mean_of_batch_means),
    "column-order": Recipe(then=lambda L, s: L.T.flatten().reshape(L.shape)),
    "eigenvectors-scaled": Recipe(Q_A=scaled_by_roots, Q_B=scaled_by_roots),
    "factors-by-running-average": Recipe(A=running_average(factor_A), B=running_average(factor_B)),
    "inputs-of-next-sample": Recipe(look=lambda s: replace(s, a=s.a.roll(-1, 0))),
    "bias-first": Recipe(look=bias_first),
    "root-transposed": Recipe(columns=root_transposed),
}
