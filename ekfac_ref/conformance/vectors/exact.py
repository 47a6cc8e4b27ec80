r"""Numbers without rounding: fractions, decimals of sixty digits, and one rounding at the end.

A vector's bits are not to depend on the processor that makes it. Inputs are fractions of powers of
two, so sums, products and means of them are fractions; eigenvectors and solutions are decimals,
whose arithmetic is laid down to the last digit. Arrays have such numbers as objects.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import lcm

import numpy as np
from jaxtyping import Float64, Shaped

DIGITS = 60  # that decimals are computed with
_KEPT = 40  # that are kept of them: what is exactly zero, or a half, comes out as that
_SWEEPS = 20  # of Jacobi's rotations, at most; each squares what is left beside the diagonal
_LEFT = Decimal("1e-80")  # of the largest entry: what is left beside the diagonal is nothing then

_Square = Shaped[np.ndarray, "d d"]


@contextmanager
def sixty_digits() -> Iterator[None]:
    """Within it, decimals have ``DIGITS``."""
    with localcontext() as context:
        context.prec = DIGITS
        yield


def fractions_of(x: Float64[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Every number as the fraction that it is."""
    return np.array([Fraction(float(v)) for v in x.ravel()], dtype=object).reshape(x.shape)


def whole(x: Shaped[np.ndarray, "*shape"]) -> tuple[Shaped[np.ndarray, "*shape"], int]:
    """(integers, their common denominator) of fractions: sums of products are quick in integers."""
    denominator = lcm(*(v.denominator for v in x.ravel()))
    flat = [v.numerator * (denominator // v.denominator) for v in x.ravel()]
    return np.array(flat, dtype=object).reshape(x.shape), denominator


def over(x: Shaped[np.ndarray, "*shape"], denominator: int) -> Shaped[np.ndarray, "*shape"]:
    """Integers over a denominator, as fractions."""
    return np.array([Fraction(v, denominator) for v in x.ravel()], dtype=object).reshape(x.shape)


def decimals_of(x: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Every fraction, or integer, as a decimal of ``DIGITS``."""
    found = [Decimal(v.numerator) / Decimal(v.denominator) for v in x.ravel()]
    return np.array(found, dtype=object).reshape(x.shape)


def rounded_once(x: Shaped[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """The nearest float64 to every number; of decimals, what is left below _KEPT digits is none."""
    flat = list(x.ravel())
    if any(isinstance(v, Decimal) for v in flat):
        largest = max((abs(Decimal(v)) for v in flat), default=Decimal(0))
        step = Decimal(1).scaleb(largest.adjusted() - _KEPT) if largest else Decimal(1)
        with sixty_digits():
            flat = [Decimal(v).quantize(step) for v in flat]
    return np.array([float(v) + 0.0 for v in flat], dtype=np.float64).reshape(x.shape)


def eye(d: int) -> _Square:
    """The identity, of whole numbers."""
    return np.array([[int(i == j) for j in range(d)] for i in range(d)], dtype=object)


@cache  # the same few for all vectors; not to be written to
def orthogonal_matrix(d: int, turn: int) -> Float64[np.ndarray, "d d"]:
    """A product of two reflections, each entry rounded to float64; another one for every turn."""
    Q = eye(d)
    for k in range(2):
        v = np.array([Fraction(1 + (i * (turn + 2) + k * (i + 1)) % 5) for i in range(d)])
        v[(turn + k) % d] *= -1
        Q = Q @ (eye(d) - 2 * np.outer(v, v) / (v @ v))
    return rounded_once(Q)


def jacobi(matrix: _Square) -> tuple[Shaped[np.ndarray, " d"], _Square]:
    """(w, Q) of a symmetric matrix of decimals: eigenvalues, ascending, eigenvectors as columns.

    By Jacobi's rotations, which find small eigenvalues as well as large ones.
    """
    S, d = matrix.copy(), len(matrix)
    Q, least = decimals_of(eye(d)), _LEFT * abs(matrix).max()
    for _ in range(_SWEEPS):
        for p in range(d):
            for q in range(p + 1, d):
                if abs(S[p, q]) > least:
                    _rotate(S, Q, p, q)
    order = sorted(range(d), key=lambda i: S[i, i])
    return S.diagonal()[order], Q[:, order]


def _rotate(S: _Square, Q: _Square, p: int, q: int) -> None:
    """In place: the rotation of axes p and q after which S_pq is zero."""
    theta = (S[q, q] - S[p, p]) / (2 * S[p, q])
    sign = 1 if theta >= 0 else -1
    t = sign / (abs(theta) + (theta * theta + 1).sqrt())
    c = 1 / (t * t + 1).sqrt()
    s = t * c
    for of in (S, S.T, Q):
        of[:, [p, q]] = np.stack([c * of[:, p] - s * of[:, q], s * of[:, p] + c * of[:, q]], 1)
    S[p, q] = S[q, p] = Decimal(0)


def solved_exactly(M: _Square, b: Shaped[np.ndarray, " d"]) -> Shaped[np.ndarray, " d"]:
    """M^-1 b of a positive definite matrix of decimals, by elimination."""
    M, b = M.copy(), b.copy()
    d = len(b)
    for k in range(d):
        for i in range(k + 1, d):
            if M[i, k] != 0:
                factor = M[i, k] / M[k, k]
                M[i, k:] = M[i, k:] - factor * M[k, k:]
                b[i] -= factor * b[k]
    x = b.copy()
    for k in reversed(range(d)):
        x[k] = (b[k] - sum((M[k, j] * x[j] for j in range(k + 1, d)), Decimal(0))) / M[k, k]
    return x
