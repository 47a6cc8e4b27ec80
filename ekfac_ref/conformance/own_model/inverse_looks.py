"""What a wrong preconditioner of a block looks like: the right matrix, damped in another way.

In the eigenbasis of the definition a preconditioner divides V by h, and right is h = M + d. Other h
are tried at all dampings d that it was asked at. Some have one number c in them, which is found by
least squares.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Factored, Tikhonov
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.of_solutions import rounding_of_an_inverse
from ekfac_ref.conformance.own_model.laws.own_law import norm
from ekfac_ref.conformance.truth.tolerance import LIMIT

_FINEST = 1e-6  # nothing is held to a better fit


@dataclass(frozen=True, eq=False)
class _Asked:
    """What was asked at one damping, and answered, in the eigenbasis of the definition.

    Attributes:
        M: eigenvalues of the matrix that is to be inverted; B and A: those of the factors.
        d: the damping.
        V: what was given; x: the answer.
        off: how far h x may be from V by rounding.
    """

    M: Tensor
    B: Tensor
    A: Tensor
    d: float
    V: Tensor
    x: Tensor
    off: float

    @property
    def right(self) -> Tensor:
        """M + d, by which it should divide."""
        return self.M + self.d

    @property
    def factored(self) -> Tensor:
        """(B + sqrt(d) / pi) (A + sqrt(d) pi), as in ``Factored``."""
        pi = float(self.A.mean() / self.B.mean()) ** 0.5
        return torch.outer(self.B + self.d**0.5 / pi, self.A + self.d**0.5 * pi)


@dataclass(frozen=True)
class Way:
    """To divide by h = first + c second, c a number that nobody knows; or by h = first."""

    says: str  # with {} for c
    first: Callable[[_Asked], Tensor | float]
    second: Callable[[_Asked], Tensor | float] | None = None


SCALED = Way("the matrix alone has a factor", lambda row: row.d, lambda row: row.M)
_WAYS = (
    SCALED,
    Way(
        "Its preconditioner inverts {} times what it should, d included.",
        lambda row: 0.0,
        lambda row: row.right,
    ),
    Way(
        "What its preconditioner inverts is right, but for {} d in place of d.",
        lambda row: row.M,
        lambda row: row.d,
    ),
    Way(
        "What its preconditioner inverts is right, but for {} in place of any d.",
        lambda row: row.M,
        lambda row: 1.0,
    ),
    Way("Its preconditioner adds sqrt(d), where d is asked.", lambda row: row.M + row.d**0.5),
    Way("Its preconditioner adds d^2, where d is asked.", lambda row: row.M + row.d**2),
    Way("Its preconditioner inverts the square root of M + d I.", lambda row: row.right.sqrt()),
    Way("Its preconditioner inverts the square of M + d I.", lambda row: row.right**2),
    Way("Its preconditioner inverts sqrt(M) + d I.", lambda row: row.M.sqrt() + row.d),
    Way(
        "Its preconditioner inverts B (x) A + d I; Definition(damping=OnKFAC()) declares that.",
        lambda row: torch.outer(row.B, row.A) + row.d,
    ),
    Way(
        "Its preconditioner inverts (B + sqrt(d) / pi I) (x) (A + sqrt(d) pi I); "
        "Definition(damping=Factored()) declares that.",
        lambda row: row.factored,
    ),
)


def ways_of(one: Examined) -> list[tuple[Way, float, float]]:
    """(a way that fits at every damping, its c, how far that may be off), each that there is."""
    rows = list(_asked(one))
    return [(way, *c) for way in _WAYS if rows and (c := _fit(way, rows)) is not None]


def _asked(one: Examined) -> Iterator[_Asked]:
    """In float64; nothing where the definition has no one matrix to which d is added."""
    known = one.known
    B, A = known.B, known.A
    M, K = known.Lambda, torch.outer(B.values, A.values).clamp(min=0)
    if one.E is None and not isinstance(one.damping, Tikhonov):
        M = K
    if one.E is None and isinstance(one.damping, Factored):
        return
    for solved in one.inverted:
        V, x = (B.Q.T @ X @ A.Q for X in (solved.V, solved.x))
        off = max(LIMIT * rounding_of_an_inverse(one, x, solved.damping), _FINEST * norm(V))
        b, a = (spectrum.values.clamp(min=0) for spectrum in (B, A))
        yield _Asked(M, b, a, solved.damping, V, x, off)


def _fit(way: Way, rows: list[_Asked]) -> tuple[float, float] | None:
    """(c, how far it may be off, relatively), 1 and 0 where there is none; None if it fits not."""
    c = off = 1.0
    if way.second is not None:
        rest = torch.stack([row.V - way.first(row) * row.x for row in rows])
        times = torch.stack([way.second(row) * row.x for row in rows])
        c = float((times * rest).sum()) / max(norm(times) ** 2, 1e-300)
        off = max(10 * norm(rest - c * times) / max(norm(c * times), 1e-300), _FINEST)
    for row in rows:
        h = way.first(row) + (0 if way.second is None else c * way.second(row))
        if norm(h * row.x - row.V) > row.off:
            return None
    return c, off
