"""F, A, B and Lambda of one layer as sums over n, c and t, in float64 and nothing clever.

One group at a time, each argument a list over the samples n (T_n and C_n may differ):
G_n [C, d_out, d_in], a_n [T, d_in], g_n [C, T, d_out], counted_n a list of T booleans.
"""

import torch
from torch import Tensor

from tests.independent.positions import Positions

Counted = list[list[bool]]


def vec(matrix: Tensor) -> Tensor:
    """The rows one behind the other, in float64."""
    return torch.cat([row.double() for row in matrix])


def fisher(G: list[Tensor]) -> Tensor:
    """F = (1/N) sum_n sum_c vec(G_nc) vec(G_nc)^T."""
    F = torch.zeros(2 * (G[0][0].numel(),), dtype=torch.float64)
    for G_n in G:
        for G_nc in G_n:
            F += torch.outer(vec(G_nc), vec(G_nc))
    return F / len(G)


def full_fisher(G: dict[str, list[Tensor]]) -> Tensor:
    """The same over all layers at once, one layer behind the other in the order of the dict."""
    joint = [
        torch.stack(
            [torch.cat([vec(G_nc) for G_nc in layers]) for layers in zip(*G_n, strict=True)]
        )
        for G_n in zip(*G.values(), strict=True)
    ]
    return fisher([G_n[:, None, :] for G_n in joint])


def expand_A(a: list[Tensor], counted: Counted) -> Tensor:
    """A = (1/M) sum_n sum_t a_nt a_nt^T over the M positions that count."""
    A = torch.zeros(2 * (a[0].shape[-1],), dtype=torch.float64)
    M = 0
    for a_n, counted_n in zip(a, counted, strict=True):
        for a_nt, counts in zip(a_n.double(), counted_n, strict=True):
            if counts:
                A += torch.outer(a_nt, a_nt)
                M += 1
    return A / M


def expand_B(g: list[Tensor], counted: Counted) -> Tensor:
    """B = (1/N) sum_n sum_c sum_t g_nct g_nct^T."""
    B = torch.zeros(2 * (g[0].shape[-1],), dtype=torch.float64)
    for g_n, counted_n in zip(g, counted, strict=True):
        for g_nc in g_n.double():
            for g_nct, counts in zip(g_nc, counted_n, strict=True):
                if counts:
                    B += torch.outer(g_nct, g_nct)
    return B / len(g)


def reduce_A(a: list[Tensor], counted: Counted) -> Tensor:
    """A = (1/N+) sum_n abar_n abar_n^T, abar_n the mean over the counted positions of sample n."""
    A = torch.zeros(2 * (a[0].shape[-1],), dtype=torch.float64)
    N_plus = 0
    for a_n, counted_n in zip(a, counted, strict=True):
        kept = [a_nt for a_nt, counts in zip(a_n.double(), counted_n, strict=True) if counts]
        if kept:
            a_bar = sum(kept) / len(kept)
            A += torch.outer(a_bar, a_bar)
            N_plus += 1
    return A / N_plus


def reduce_B(g: list[Tensor], counted: Counted) -> Tensor:
    """B = (1/N) sum_n sum_c ghat_nc ghat_nc^T, ghat_nc the sum over the counted positions."""
    B = torch.zeros(2 * (g[0].shape[-1],), dtype=torch.float64)
    for g_n, counted_n in zip(g, counted, strict=True):
        for g_nc in g_n.double():
            g_hat = torch.zeros(g_nc.shape[-1], dtype=torch.float64)
            for g_nct, counts in zip(g_nc, counted_n, strict=True):
                if counts:
                    g_hat += g_nct
            B += torch.outer(g_hat, g_hat)
    return B / len(g)


def eigenvalues(G: list[Tensor], Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """Lambda_oi = (1/N) sum_n sum_c (q_o^T G_nc q_i)^2, q_o and q_i columns of Q_B and Q_A."""
    Lambda = torch.zeros(Q_B.shape[1], Q_A.shape[1], dtype=torch.float64)
    for o in range(Q_B.shape[1]):
        for i in range(Q_A.shape[1]):
            for G_n in G:
                for G_nc in G_n.double():
                    Lambda[o, i] += (Q_B[:, o].double() @ G_nc @ Q_A[:, i].double()) ** 2
    return Lambda / len(G)


def kronecker(B: Tensor, A: Tensor) -> Tensor:
    """B (x) A: block o, p of the result is B_op A."""
    return torch.cat([torch.cat([B_op * A for B_op in B_o], 1) for B_o in B], 0)


def eigen_kronecker(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
    """E = sum_oi Lambda_oi vec(q_o q_i^T) vec(q_o q_i^T)^T."""
    E = torch.zeros(2 * (Q_B.shape[0] * Q_A.shape[0],), dtype=torch.float64)
    for o in range(Q_B.shape[1]):
        for i in range(Q_A.shape[1]):
            direction = vec(torch.outer(Q_B[:, o], Q_A[:, i]))
            E += Lambda[o, i] * torch.outer(direction, direction)
    return E


def every_position(positions: list[Positions]) -> Counted:
    """No mask: all T_n positions of every sample count."""
    return [[True] * len(one.a) for one in positions]


def gradients_of_group(G: list[Tensor], groups: int, group: int) -> list[Tensor]:
    """The rows of one group, of G_n [C, d_out, d_in]."""
    d = G[0].shape[1] // groups
    return [G_n[:, group * d : (group + 1) * d] for G_n in G]


def inputs_of_group(positions: list[Positions], group: int) -> list[Tensor]:
    """a_n [T, d_in] of one group."""
    return [one.a[:, group] for one in positions]


def output_gradients_of_group(positions: list[Positions], group: int) -> list[Tensor]:
    """g_n [C, T, d_out / groups] of one group."""
    return [one.g[:, :, group] for one in positions]
