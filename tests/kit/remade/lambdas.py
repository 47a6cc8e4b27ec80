"""Eigenvalues that are measured wrongly, or come in the wrong order."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.kit.remade.hooked import (
    Caught,
    Recipe,
    eigenvectors,
    factor_A,
    factor_B,
    gradients,
    mean_square,
)

TINY = 1e-30  # where nothing is divided by nothing


def squared(square: Callable[[Tensor], Tensor]) -> Recipe:
    return Recipe(square=square)


def then(change: Callable[[Tensor], Tensor]) -> Recipe:
    return Recipe(then=lambda Lambda, s: change(Lambda))


def batchwise(square: Callable[[Tensor], Tensor]) -> Recipe:
    """The mean over batches of something made of each one's rotated gradients."""

    def Lambda(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        return torch.stack([square(R[s.batch == b]) for b in s.batch.unique()]).mean(0)

    return Recipe(Lambda=Lambda)


def square_each_position(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    g, a = (s.g @ Q_B).square(), (s.a @ Q_A).square()
    return torch.einsum("ncto,nti->oi", g, a) / len(s)


def products(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    b, a = torch.linalg.eigvalsh(factor_B(s)), torch.linalg.eigvalsh(factor_A(s))
    return torch.outer(b, a)


def products_rescaled(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    kfac = products(s, R, Q_B, Q_A)
    return kfac * mean_square(R).sum() / kfac.sum().clamp(min=TINY)


def in_the_first_basis(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    first = s.batches()[0]
    Q_B, Q_A = eigenvectors(factor_B(first)), eigenvectors(factor_A(first))
    return mean_square(Q_B.T @ gradients(s) @ Q_A)


def rotated_the_wrong_way(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return mean_square(Q_B @ gradients(s) @ Q_A.T)


def of_the_last_batch(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return mean_square(R[s.batch == s.batch[-1]])


def bias_of_the_batch(s: Caught) -> Tensor:
    G = gradients(s).clone()
    if s.biased:
        G[..., -1] = torch.stack([G[s.batch == b, ..., -1].sum(0) for b in s.batch])
    return G


def with_imaginary_parts(Lambda: Tensor) -> Tensor:
    pairs = torch.view_as_real(Lambda.flatten().to(torch.complex128))
    return pairs.flatten()[: Lambda.numel()].reshape(Lambda.shape)


EIGENVALUES = {
    "square-each-position": Recipe(Lambda=square_each_position),
    "square-of-the-mean": squared(lambda R: R.mean(0).square().sum(0)),
    "square-of-each-batch-mean": batchwise(lambda R: R.mean(0).square().sum(0)),
    "columns-before-the-square": squared(lambda R: R.sum(1).square().mean(0)),
    "absolute-value": squared(lambda R: R.abs().sum(1).mean(0)),
    "variance": squared(lambda R: R.var(0, correction=0).sum(0)),
    "never-corrected": Recipe(Lambda=products),
    "corrected-by-one-scalar": Recipe(Lambda=products_rescaled),
    "product-of-marginals": then(
        lambda L: torch.outer(L.sum(1), L.sum(0)) / L.sum().clamp(min=TINY)
    ),
    "scalar-mean": then(lambda L: L.mean() * torch.ones_like(L)),
    "square-root-of-lambda": then(torch.sqrt),
    "half-lambda": then(lambda L: L / 2),
    "clamped-lambda": then(lambda L: L.clamp(min=1e-3 * float(L.max()))),
    "truncated-lambda": then(lambda L: L * (L.max() / 100 <= L)),
    "column-order": then(lambda L: L.T.flatten().reshape(L.shape)),
    "row-order": then(lambda L: L.flatten().reshape(L.shape[1], L.shape[0]).T),
    "transposed-where-square": then(lambda L: L.T if len(L) == len(L.T) else L),
    "other-order-of-inputs": then(lambda L: L.flip(1)),
    "other-order-of-outputs": then(lambda L: L.flip(0)),
    "imaginary-parts-between": then(with_imaginary_parts),
    "sorted-lambda": then(lambda L: L.flatten().sort()[0].reshape(L.shape)),
    "rotated-the-wrong-way": Recipe(Lambda=rotated_the_wrong_way),
    "measured-in-an-older-basis": Recipe(Lambda=in_the_first_basis),
    "lambda-by-mean-of-batch-means": batchwise(mean_square),
    "lambda-of-the-last-batch": Recipe(Lambda=of_the_last_batch),
    "bias-of-the-whole-batch": Recipe(G=bias_of_the_batch),
    "lambda-in-half-precision": then(lambda L: L.bfloat16().to(L)),
}
