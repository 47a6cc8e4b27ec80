r"""A, B, F, Lambda and the bounds on their terms, of bare data, as fractions: no digit is lost.

The definitions of ``notation.py`` and ``sharing.py`` once more, from a and g alone, and in numbers
that do not round.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
from jaxtyping import Shaped

from ekfac_ref.conformance.vectors.bare import Bare
from ekfac_ref.conformance.vectors.exact import decimals_of, fractions_of, over, whole
from ekfac_ref.question.sharing import Expand

_Matrix = Shaped[np.ndarray, "d_out d_in"]
_Square = Shaped[np.ndarray, "d d"]
_A = Shaped[np.ndarray, "d_in d_in"]
_B = Shaped[np.ndarray, "d_out d_out"]


@dataclass(frozen=True, eq=False)
class ExactSums:
    """One block of one vector.

    Attributes:
        a: [T, d_in] of every sample, at the positions that count.
        g: [C, T, d_out] of every sample, at those.
        G: all G_nc, sample after sample.
        A, B, F: as ``notation.py`` has them.
        length: what roundings are counted by: the sum of C T over samples, and d_out + d_in.
        bounds: on the terms of F, B and A.
    """

    a: list[Shaped[np.ndarray, "_T d_in"]]
    g: list[Shaped[np.ndarray, "_C _T d_out"]]
    G: list[_Matrix]
    A: _A
    B: _B
    F: Shaped[np.ndarray, "P P"]
    length: int
    bounds: "Bounds"

    @property
    def samples(self) -> int:
        """The number N of samples, those without a position among them."""
        return len(self.a)

    def eigenvalues_in(self, Q_B: _B, Q_A: _A) -> _Matrix:
        """Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2."""
        (G, w), (Q_B, u), (Q_A, v) = map(whole, (np.stack(self.G), Q_B, Q_A))
        squares = sum((Q_B.T @ G_nc @ Q_A) ** 2 for G_nc in G)
        return over(squares, self.samples * (w * u * v) ** 2)

    def moment(self, p: int, q: int) -> Fraction:
        """tr F (B^p (x) A^q) = (1/N) sum_nc <G_nc, B^p G_nc A^q>."""
        (G, w), (B, u), (A, v) = map(whole, (np.stack(self.G), self.B, self.A))
        B, A = np.linalg.matrix_power(B, p), np.linalg.matrix_power(A, q)
        inner = sum((G_nc * (B @ G_nc @ A)).sum() for G_nc in G)
        return Fraction(inner, self.samples * w**2 * u**p * v**q)


@dataclass(frozen=True)
class Bounds:
    r"""What roundings are relative to: bounds on the absolute values of all terms.

    Attributes:
        f: (1/N) sum_n (sum_t |g_nt| |a_nt|)^2, |g_nt| over all columns.
        b: (1/N) sum_n (sum_t |g_nt|)^2.
        a: max |a_nt|^2 over the positions that count.
    """

    f: Decimal
    b: Decimal
    a: Decimal


def sums_of(bare: Bare, columns: slice) -> ExactSums:
    """Of the inputs in these columns alone."""
    N = len(bare.a)
    a = [fractions_of(a_n[on, columns]) for a_n, on in zip(bare.a, bare.counted, strict=True)]
    g = [fractions_of(g_n[:, on]) for g_n, on in zip(bare.g, bare.counted, strict=True)]
    G = [g_nc.T @ a_n for a_n, g_n in zip(a, g, strict=True) for g_nc in g_n]
    F = _gram([X.reshape(-1) for X in G], N)
    if isinstance(bare.sharing, Expand):
        rows_a = [row for a_n in a for row in a_n]
        rows_g = [row for g_n in g for g_nc in g_n for row in g_nc]
    else:
        rows_a = [a_n.sum(0) / Fraction(len(a_n)) for a_n in a if len(a_n)]
        rows_g = [g_nc.sum(0) for a_n, g_n in zip(a, g, strict=True) if len(a_n) for g_nc in g_n]
    d_out, d_in = G[0].shape
    length = sum(g_n.shape[0] * g_n.shape[1] for g_n in bare.g) + d_out + d_in
    A, B = _gram(rows_a, len(rows_a)), _gram(rows_g, N)
    return ExactSums(a, g, G, A, B, F, length, _bounds(a, g))


def _gram(rows: list[Shaped[np.ndarray, " d"]], count: int) -> _Square:
    """The sum of row^T row over a count that may be another."""
    X, w = whole(np.stack(rows))
    return over(X.T @ X, count * w**2)


def _bounds(
    a: list[Shaped[np.ndarray, "_T d_in"]], g: list[Shaped[np.ndarray, "_C _T d_out"]]
) -> Bounds:
    """In decimals, since norms are roots."""
    sizes_a = [_roots((a_n**2).sum(1)) for a_n in a]
    sizes_g = [_roots((g_n**2).sum((0, 2))) for g_n in g]
    both = zip(sizes_g, sizes_a, strict=True)
    f = sum((sum(x * y for x, y in zip(*one, strict=True)) ** 2 for one in both), Decimal(0))
    b = sum((sum(one) ** 2 for one in sizes_g), Decimal(0))
    return Bounds(
        Decimal(f) / len(a), Decimal(b) / len(a), max(x for one in sizes_a for x in one) ** 2
    )


def _roots(x: Shaped[np.ndarray, " _T"]) -> list[Decimal]:
    return [v.sqrt() for v in decimals_of(x)]
