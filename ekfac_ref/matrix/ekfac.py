r"""KFAC's eigenbasis with the eigenvalues put right.

E = (Q_B (x) Q_A) diag(vec Lambda) (Q_B (x) Q_A)^T, with Q_A, Q_B the eigenvectors of KFAC's factors
and Lambda the diagonal of F read in that basis:

    Lambda_oi = (1/N) sum_n sum_c [Q_B^T G_nc Q_A]_oi^2,    G_nc = sum_t g_nct a_nt^T.

The sum over positions t comes *before* the square. Lambda is the best diagonal there is in this
basis: ||F - E|| <= ||F - K|| for every K diagonal in it, KFAC's among them.

Source: George et al. 2018 (1806.03884).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.matrix.outer_products import Gram, Stack
from ekfac_ref.matrix.pieces import pieces


def eigenbasis(sum_of_rows: Stack | Gram) -> Float[Tensor, "d r"]:
    """Eigenvectors of A or B as columns. Scale plays no part, so none is asked for.

    From r < d rows come only r directions that contain the rows: no gradient has any component in
    the others, so Lambda is zero there. (QR, then an r x r eigendecomposition: faster than the SVD
    of the rows, and the eigenvectors that it gives are closer to diagonalizing A.)
    """
    if isinstance(sum_of_rows, Gram):
        return eigh(sum_of_rows.gram())[1]
    Q, R = torch.linalg.qr(sum_of_rows.rows.T)
    return Q @ eigh(R @ R.T)[1]


def squares_from_gradients(
    G: Float[Tensor, "N C d_out d_in"],
    Q_B: Float[Tensor, "d_out r_out"],
    Q_A: Float[Tensor, "d_in r_in"],
) -> Float[Tensor, "r_out r_in"]:
    """sum_nc [Q_B^T G_nc Q_A]^2, N Lambda by its definition."""
    return (Q_B.T @ G @ Q_A).square().sum((0, 1))


def squares_from_taps(
    a: Float[Tensor, "N T d_in"],
    g: Float[Tensor, "N C T d_out"],
    Q_B: Float[Tensor, "d_out r_out"],
    Q_A: Float[Tensor, "d_in r_in"],
) -> Float[Tensor, "r_out r_in"]:
    """sum_nc [Q_B^T G_nc Q_A]^2 from inputs and output gradients: N Lambda, G_nc = sum_t g a^T.

    With one position, [Q_B^T g a^T Q_A]^2 is the product of two squares and no gradient is ever
    formed. With several, either a and g are rotated and then summed over positions, or summed and
    then rotated, whichever takes fewer multiplications; of a few samples at a time.
    """
    N, C, T, _ = g.shape
    if T == 1:
        b = (g[:, :, 0] @ Q_B).square_().sum(1)
        return b.T @ (a[:, 0] @ Q_A).square_()
    rotate_first = _rotating_first_is_cheaper(T, C, Q_B, Q_A)
    if rotate_first:
        a, g = _rotated(a, Q_A), _rotated(g, Q_B)
    squares = Q_A.new_zeros(Q_B.shape[1], Q_A.shape[1])
    for n, c in pieces(N, C, g.shape[3] * a.shape[2] * g.itemsize):
        G = _sum_over_positions(a[n], g[n, c])
        squares += G.square_().sum((0, 1)) if rotate_first else squares_from_gradients(G, Q_B, Q_A)
    return squares


def squares_of_several(
    a: Float[Tensor, "k N T d_in"],
    g: Float[Tensor, "k N C T d_out"],
    Q_B: Float[Tensor, "k d_out r_out"],
    Q_A: Float[Tensor, "k d_in r_in"],
) -> Float[Tensor, "k r_out r_in"]:
    """``squares_from_taps`` of each of k layers, or groups of one, that are small."""
    (k, N, C, _, d_out), d_in = g.shape, a.shape[3]
    squares = Q_A.new_zeros(k, Q_B.shape[2], Q_A.shape[2])
    for n, c in pieces(N, C, k * d_out * d_in * g.itemsize):
        G = torch.einsum("kncto,knti->kncoi", g[:, n, c], a[:, n])
        rotated = torch.einsum("kor,kncoi,kis->kncrs", Q_B, G, Q_A)
        squares += rotated.square_().sum((1, 2))
    return squares


def _rotated(x: Float[Tensor, "*axes d"], Q: Float[Tensor, "d r"]) -> Float[Tensor, "*axes r"]:
    """X Q in one product, whatever the strides."""
    return (x.reshape(-1, x.shape[-1]) @ Q).reshape(*x.shape[:-1], Q.shape[1])


def _sum_over_positions(
    a: Float[Tensor, "N T i"], g: Float[Tensor, "N C T o"]
) -> Float[Tensor, "N C o i"]:
    return torch.einsum("ncto,nti->ncoi", g, a)


def _rotating_first_is_cheaper(T: int, C: int, Q_B: Tensor, Q_A: Tensor) -> bool:
    (d_out, r_out), (d_in, r_in) = Q_B.shape, Q_A.shape
    rotate_first = T * (d_in * r_in + C * d_out * r_out + C * r_out * r_in)
    sum_first = C * (T * d_out * d_in + r_out * d_out * d_in + r_out * d_in * r_in)
    return rotate_first < sum_first
