r"""The right answers to one vector, each with what its roundings are relative to.

Sums and products are fractions, rounded once. E takes eigenvectors, which are decimals of sixty
digits, and so is what is solved. E is one matrix where the eigenvalues of A and B are apart; where
some coincide it may be several, and whether it is, is tried: two right bases must give one E.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from math import log2

import numpy as np
from jaxtyping import Float64, Shaped

from ekfac_ref.conformance.vectors.bare import Bare
from ekfac_ref.conformance.vectors.exact import (
    decimals_of,
    eye,
    fractions_of,
    jacobi,
    orthogonal_matrix,
    rounded_once,
    sixty_digits,
    solved_exactly,
)
from ekfac_ref.conformance.vectors.sums import ExactSums, sums_of

POWERS = 3  # of A and B in moments: 0, 1 and 2
_ONE = Decimal("1e-30")  # what is nearer, relative to the bound on a factor, is one eigenvalue
_SAME = Decimal("1e-25")  # two bases leave E the same, relative to its size, or far from it
_Square = Shaped[np.ndarray, "d d"]


@dataclass(frozen=True, eq=False)
class RightAnswer:
    """One answer.

    Attributes:
        value: numbers of whatever shape, or None where there is no one right answer.
        scale: of its roundings, in its own units; of the shape of ``value`` where entries differ.
        why: there is no one right answer, or what makes it one though eigenvalues coincide.
        more: beside it, by name.
    """

    value: np.ndarray | None
    scale: Float64[np.ndarray, "*shape"] | float | None
    why: str = ""
    more: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class AskedBlock:
    """What is asked of one block of a vector, and the answers, by name."""

    name: str
    columns: slice
    length: int
    Q_B: Float64[np.ndarray, "d_out d_out"]
    Q_A: Float64[np.ndarray, "d_in d_in"]
    V: Float64[np.ndarray, "d_out d_in"]
    dampings: tuple[float, ...]
    answers: dict[str, RightAnswer]


def answered(bare: Bare, turn: int) -> list[AskedBlock]:
    """All blocks of a vector that has answers; bases and V differ from turn to turn."""
    with sixty_digits():
        return [_block(bare, name, columns, turn) for name, columns in bare.blocks.items()]


def _block(bare: Bare, name: str, columns: slice, turn: int) -> AskedBlock:
    seen = sums_of(bare, columns)
    d_out, d_in = seen.G[0].shape
    Q_B, Q_A = orthogonal_matrix(d_out, turn), orthogonal_matrix(d_in, turn + 1)
    V = np.array(
        [[float((3 * o + 2 * i + turn) % 5 - 2) for i in range(d_in)] for o in range(d_out)]
    )
    V[0, 0] = 3.0
    dampings = bare.dampings or _dampings(seen)
    f, b, a = seen.bounds.f, seen.bounds.b, seen.bounds.a
    K = np.kron(seen.B, seen.A)
    moments = [[seen.moment(p, q) for q in range(POWERS)] for p in range(POWERS)]
    sizes = [[f * _power(b, p) * _power(a, q) for q in range(POWERS)] for p in range(POWERS)]
    Lambda = seen.eigenvalues_in(fractions_of(Q_B), fractions_of(Q_A))
    E, E_told = _ekfac(seen, bare.silent)
    given = _in_the_basis(Lambda, Q_B, Q_A, V, dampings, f)
    answers = {
        "A": _told(seen.A, a),
        "B": _told(seen.B, b),
        "F": _told(seen.F, f),
        "trace": _told(np.array(seen.F.trace(), dtype=object), f),
        "moments": _told(np.array(moments, dtype=object), np.array(sizes, dtype=object)),
        "KFAC": _told(K, max(f, b * a)),
        "Lambda": _told(Lambda, f),
        **given,
        "E": E_told,
        "F solve": _solve(decimals_of(seen.F), V, dampings, f),
        "KFAC solve": _solve(decimals_of(K), V, dampings, max(f, b * a)),
        "E solve": RightAnswer(None, None, E_told.why)
        if E is None
        else _solve(E, V, dampings, Decimal(E_told.scale)),  # type: ignore[arg-type]
    }
    return AskedBlock(name, columns, seen.length, Q_B, Q_A, V, dampings, answers)


def _told(value: np.ndarray, scale: "Decimal | np.ndarray") -> RightAnswer:
    """Rounded once; the scale to a few digits, for it is a bound."""
    if isinstance(scale, np.ndarray):
        return RightAnswer(rounded_once(value), np.vectorize(_short, otypes=[float])(scale))
    return RightAnswer(rounded_once(value), _short(scale))


def _power(bound: Decimal, p: int) -> Decimal:
    """With 0^0 = 1, which decimals do not have."""
    return bound**p if p else Decimal(1)


def _short(scale: Decimal) -> float:
    return float(f"{scale:.3e}")


def _dampings(seen: ExactSums) -> tuple[float, float]:
    """Powers of two: of the size of F's eigenvalues, and a 32nd of that; 1/2 where F is zero."""
    size = float(seen.F.trace()) / len(seen.F)
    large = 2.0 ** (round(log2(size)) if size else 0)
    large /= 1 if large != 1.0 else 2  # at 1, one that is squared looks right
    return large, large / 32


def _in_the_basis(
    Lambda: np.ndarray,
    Q_B: np.ndarray,
    Q_A: np.ndarray,
    V: np.ndarray,
    dampings: tuple[float, ...],
    f: Decimal,
) -> dict[str, RightAnswer]:
    """What E is in the basis that is given: its product with V, and what it solves."""
    Q_B, Q_A, V = (decimals_of(fractions_of(x)) for x in (Q_B, Q_A, V))
    inside, Lambda = Q_B.T @ V @ Q_A, decimals_of(Lambda)
    product = Q_B @ (Lambda * inside) @ Q_A.T
    solutions = [Q_B @ (inside / (Lambda + Decimal(d))) @ Q_A.T for d in dampings]
    scales = [_solve_scale(f, V, d) for d in dampings]
    return {
        "Lambda product": _told(product, f * _norm(V)),
        "Lambda solve": _told(np.stack(solutions), np.array(scales, dtype=object)),
    }


def _solve(M: _Square, V: np.ndarray, dampings: tuple[float, ...], size: Decimal) -> RightAnswer:
    """(M + damping I)^-1 V at every damping, stacked."""
    v, unit = decimals_of(fractions_of(V).reshape(-1)), decimals_of(eye(len(M)))
    solutions = [solved_exactly(M + Decimal(d) * unit, v).reshape(V.shape) for d in dampings]
    scales = [_solve_scale(size, V, d) for d in dampings]
    return _told(np.stack(solutions), np.array(scales, dtype=object))


def _solve_scale(size: Decimal, V: np.ndarray, damping: float) -> Decimal:
    """|x| <= |V| / damping, and a rounding of M moves x by M / damping of that."""
    d = Decimal(damping)
    return (size + d) / d * _norm(V) / d


def _norm(V: np.ndarray) -> Decimal:
    return sum((Decimal(v) ** 2 for v in V.ravel()), Decimal(0)).sqrt()


def _ekfac(seen: ExactSums, silent: bool) -> tuple[_Square | None, RightAnswer]:
    """E in decimals, and what is told of it; None where it is no one matrix."""
    f, b, a = seen.bounds.f, seen.bounds.b, seen.bounds.a
    (w_B, Q_B), (w_A, Q_A) = (_spectrum(M, False) for M in (seen.B, seen.A))
    spectra = [("B", w_B, b), ("A", w_A, a)]
    E = _assembled(seen, Q_B, Q_A)
    gaps = {name: _gap(w, bound, silent) for name, w, bound in spectra}
    narrow = min(gaps, key=lambda name: gaps[name])
    gap = gaps[narrow]
    more = {"eigengap": _short(gap)}
    if gap > _ONE:  # where it is small, so much more do roundings turn eigenvectors
        return E, RightAnswer(rounded_once(E), _short(max(f / gap, b * a)), more=more)
    other = _assembled(seen, *(_spectrum(M, True)[1] for M in (seen.B, seen.A)))
    apart = abs(E - other).max()
    if apart > _SAME * max(f, _ONE):
        return None, RightAnswer(None, None, _several(narrow, apart, E), more)
    clusters = min(_gap(_distinct(w, bound), bound, silent) for _, w, bound in spectra)
    why = f"eigenvalues of {narrow} coincide, and E is the same in every basis of theirs"
    return E, RightAnswer(rounded_once(E), _short(max(f / clusters, b * a)), why, more)


def _spectrum(M: _Square, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """(w, Q) of a factor, itself or turned first: another basis where eigenvalues coincide."""
    S = decimals_of(M)
    if not turned:
        return jacobi(S)
    R = _orthonormal(decimals_of(fractions_of(orthogonal_matrix(len(M), 3))))
    w, Q = jacobi(R.T @ S @ R)
    return w, R @ Q


def _orthonormal(R: _Square) -> _Square:
    """The columns made orthonormal to all digits, of a float64 matrix that nearly is."""
    for _ in range(4):  # Newton's steps to the nearest orthogonal matrix
        R = (3 * R - R @ (R.T @ R)) / Decimal(2)
    return R


def _assembled(
    seen: ExactSums, Q_B: Shaped[np.ndarray, "o o"], Q_A: Shaped[np.ndarray, "i i"]
) -> Shaped[np.ndarray, "P P"]:
    """E = (Q_B (x) Q_A) diag(vec Lambda) (Q_B (x) Q_A)^T."""
    G = [decimals_of(one) for one in seen.G]
    Lambda = sum((Q_B.T @ one @ Q_A) ** 2 for one in G) / Decimal(seen.samples)
    Q = np.kron(Q_B, Q_A)
    return (Q * Lambda.reshape(-1)) @ Q.T


def _gap(w: np.ndarray, bound: Decimal, silent: bool) -> Decimal:
    """The smallest distance of two eigenvalues over the bound; of those above zero, if silent."""
    bound = bound or Decimal(1)  # all is zero then
    kept = [x for x in w if not silent or x > _ONE * bound]
    return min(((y - x) / bound for x, y in pairwise(kept)), default=Decimal(1))


def _distinct(w: np.ndarray, bound: Decimal) -> np.ndarray:
    """Every eigenvalue once, however often it comes."""
    kept: list[Decimal] = []
    for x in w:
        if not kept or x - kept[-1] > _ONE * bound:
            kept.append(x)
    return np.array(kept, dtype=object)


def _several(name: str, apart: Decimal, E: _Square) -> str:
    size = apart / max(abs(E).max(), _ONE)
    return (
        f"eigenvalues of {name} coincide, their eigenvectors are not determined, and E depends on "
        f"them: two right bases give matrices with entries {size:.1%} of the largest apart"
    )
