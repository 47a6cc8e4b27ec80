"""Q_B, Q_A and Lambda put together wrongly."""

import torch
from torch import Tensor

from tests.kit.remade.hooked import Recipe, assembled


def other_kron(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
    Q = torch.kron(Q_A.contiguous(), Q_B.contiguous())
    return Q @ torch.diag(Lambda.flatten()) @ Q.T


def not_transposed(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
    Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
    return Q @ torch.diag(Lambda.flatten()) @ Q


def last_column_untouched(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
    E, d_in = assembled(Q_B, Q_A, Lambda), len(Q_A)
    E[d_in - 1 :: d_in] = torch.eye(len(E)).to(E)[d_in - 1 :: d_in]
    return E


PRODUCTS = {
    "kron-in-the-other-order": Recipe(matrix=other_kron),
    "not-transposed": Recipe(matrix=not_transposed),
    "other-way-round": Recipe(
        # Q^T Lambda Q
        matrix=lambda Q_B, Q_A, Lambda: assembled(Q_B.T, Q_A.T, Lambda)
    ),
    "multiplied-twice": Recipe(matrix=lambda *parts: assembled(*parts) @ assembled(*parts)),
    "damped-product": Recipe(
        matrix=lambda Q_B, Q_A, L: assembled(Q_B, Q_A, L + 1e-3 * L.mean()),
    ),
    "column-untouched": Recipe(matrix=last_column_untouched),
    "product-in-half-precision": Recipe(matrix=lambda *parts: assembled(*parts).bfloat16()),
}
