r"""What is right for one part of a layer of any size, and how far rounding may move it.

All of it comes from four or five passes over the data, in float64: A, B and their eigenvectors;
Lambda in these; and replays of rounding. One more finds ``spread``, where that is asked for. P x P
numbers are never kept, d_in^2 + d_out^2 + P are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.conformance.own_model.measured.clusters import Spectrum, eigenbasis_of, turned_by
from ekfac_ref.conformance.own_model.measured.data import as_dtype
from ekfac_ref.conformance.own_model.measured.parts import OwnPart
from ekfac_ref.conformance.own_model.measured.replays import Moved, moved_by_rounding, replays_of
from ekfac_ref.conformance.own_model.measured.sums import (
    FactorTotal,
    Pair,
    SquareTotal,
    chunks,
    factor_totals,
)
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.model.session import Session
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand


@dataclass(frozen=True, eq=False)
class Measured:
    """One part as the definitions have it, in float64.

    Attributes:
        part: of which layer.
        dtype: of the model and the data that the subject gets.
        B, A: the factors, with eigenvectors and clusters.
        Lambda: [d_out, d_in], in the eigenvectors of B and A.
        off: what Lambda is off by in any implementation, in the Frobenius norm.
        off_trace: its sum.
        silent: whether no gradient lives in the null spaces of A and B: expand, or one position.
        lengths: of the sums behind it: positions, and d_out and d_in.
        samples: N; columns: N C; positions: the most in one sample.
        spread: a bound on ``uneven`` by measurement (``spread.py``); None where none was made.
    """

    part: OwnPart
    dtype: torch.dtype
    B: Spectrum
    A: Spectrum
    Lambda: Float[Tensor, "d_out d_in"]
    off: float
    off_trace: float
    silent: bool
    lengths: float
    samples: int
    columns: int
    positions: int
    spread: Float[Tensor, "clusters_B clusters_A"] | None = None

    @property
    def roundoff(self) -> float:
        """The distance from 1 to the next number in the subject's dtype."""
        return torch.finfo(self.dtype).eps

    @property
    def algebra(self) -> torch.dtype:
        """Of the subject's matrices, and of what they are multiplied with."""
        return algebra_dtype(self.dtype)

    @property
    def turned(self) -> Float[Tensor, "d_out d_in"]:
        """By how much rounding moves entries of Lambda as it turns the basis (``turned_by``)."""
        return turned_by((self.B, self.A), self.Lambda)

    @property
    def uneven(self) -> Float[Tensor, "clusters_B clusters_A"]:
        """Of every block a bound on |F_b|^2 - (tr F_b)^2 / m_b, m_b entries: |F_b| <= tr F_b."""
        numbers = self.blocks(torch.ones_like(self.Lambda))
        by_trace = self.blocks(self.Lambda) ** 2 * (1 - 1 / numbers)
        return by_trace if self.spread is None else torch.minimum(by_trace, self.spread)

    @property
    def size(self) -> float:
        """|E|, the norm of Lambda."""
        return float(self.Lambda.norm())

    def blocks(
        self, entries: Float[Tensor, "d_out d_in"]
    ) -> Float[Tensor, "clusters_B clusters_A"]:
        """Sums over the blocks that clusters of B and A make."""
        return self.B.members.T @ entries @ self.A.members

    def product(self, V: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out d_in"]:
        """E V, of the E in these very eigenvectors."""
        Q_B, Q_A = self.B.Q, self.A.Q
        return Q_B @ (self.Lambda * (Q_B.T @ V @ Q_A)) @ Q_A.T


def passes_over(problem: Problem) -> int:
    """How many passes over the data there are at most, ``with_spread`` included."""
    return 3 + replays_of(problem)


def measure(
    problem: Problem, parts: Sequence[OwnPart], tick: Callable[[], None] = lambda: None
) -> list[Measured]:
    """Every part of a problem in memory; the first pass checks the wiring against autograd.

    ``tick`` is called after every pass.
    """
    exact = as_dtype(problem, torch.float64)
    factors = factor_totals(exact, parts, Session)
    tick()
    for part, total in zip(parts, factors, strict=True):
        if total.rows_a == 0:
            raise ProblemError(
                f"layer {part.layer!r}: the mask counts none of its positions in all the data, or "
                "there is none, so A is a mean over nothing; correct the mask, or leave it out."
            )
    pairs = [total.factors for total in factors]
    bases = [(eigenbasis_of(B), eigenbasis_of(A)) for B, A in pairs]
    squares = [SquareTotal.none(basis) for basis in bases]
    for several in chunks(exact, parts):
        for total_of_squares, chunk in zip(squares, several, strict=True):
            total_of_squares.add(chunk)
    tick()
    moved = [Moved() for _ in parts]
    known = list(zip(factors, squares, strict=True))
    for replay in moved_by_rounding(problem, exact, parts, bases, known):
        moved = [one.or_more(other) for one, other in zip(moved, replay, strict=True)]
        tick()
    rows = zip(parts, pairs, bases, factors, squares, moved, strict=True)
    return [_measured(problem, *row) for row in rows]


def _measured(
    problem: Problem,
    part: OwnPart,
    factors: Pair,
    basis: Pair,
    rows: FactorTotal,
    squares: SquareTotal,
    moved: Moved,
) -> Measured:
    """A sum of n terms is off by some sqrt(n) roundings of their size (Higham & Mary 2019)."""
    (B, A), (Q_B, Q_A), u = factors, basis, torch.finfo(problem.dtype).eps
    Lambda, (d_out, d_in) = squares.eigenvalues, part.shape
    off_A = max(moved.A, u * (rows.rows_a**0.5 * float(A.norm()) + float(A.trace())))
    off_B = max(moved.B, u * (rows.rows_g**0.5 * float(B.norm()) + float(B.trace())))
    # What is summed on the way to an entry: over positions, then by two rotations. Their roundings
    # look like noise, of which an entry of P has its part.
    terms = max(squares.terms / squares.samples, float(Lambda.sum()))
    within = squares.length**0.5 + d_out**0.5 + d_in**0.5
    off = squares.columns**0.5 * float(Lambda.norm()) + 2 * terms * within / min(part.shape) ** 0.5
    lengths = (squares.columns + squares.length + d_out + d_in) ** 0.5
    return Measured(
        part,
        problem.dtype,
        Spectrum.of(B, Q_B, off_B, u),
        Spectrum.of(A, Q_A, off_A, u),
        Lambda,
        max(moved.Lambda, u * off),
        max(moved.trace, u * lengths * terms),
        isinstance(problem.sharing, Expand) or (squares.length == 1 and not part.shared),
        lengths,
        squares.samples,
        squares.columns,
        squares.length,
    )
