r"""How far rounding moves A, B and Lambda on the problem at hand, by experiment.

The definition is asked again of the problem moved a little, and what comes of that, in units of
roundoff, is what rounding may do to any implementation. There are three ways to move it:

- everything that the network computes is rounded to float32 (or what is coarser, where the problem
  is), numbers moved by one in their last place: a network can amplify rounding at will;
- for such a problem, numbers are moved by KINKS last places as well: a ReLU whose input is near
  zero opens or closes by rounding. That happens to so many times as many of them then, and moves
  Lambda by the root of that, so that the root is divided out;
- the columns S_n are off by roundings of the terms that they are made of: p - p p^T and m - y
  cancel where a model is sure, in one arithmetic more than in another (``output_sizes.py``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.own_model.measured.data import as_dtype, shaken
from ekfac_ref.conformance.own_model.measured.parts import OwnPart
from ekfac_ref.conformance.own_model.measured.sums import FactorTotal, Pair, SquareTotal, glimpse
from ekfac_ref.conformance.truth.output_sizes import (
    counted_outputs,
    mean_of_label,
    output_sizes,
)
from ekfac_ref.conformance.truth.record import Known
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.problem import Problem

KINKS = 4096.0  # last places of float32: half a thousandth
_SMALL = 2.0**-20  # of a column; what it moves is as good as linear in it


@dataclass(frozen=True, eq=False)
class Moved:
    """What rounding moves in one part, at the roundoff of the problem: norms of differences.

    Attributes:
        A, B, Lambda: of each, in the Frobenius norm.
        trace: of the sum of Lambda.
    """

    A: float = 0.0
    B: float = 0.0
    Lambda: float = 0.0
    trace: float = 0.0

    def or_more(self, other: "Moved") -> "Moved":
        """The larger of both, each by itself."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in vars(self))
        return Moved(*map(max, pairs))


Exactly = Sequence[tuple[FactorTotal, SquareTotal]]


def moved_by_rounding(
    problem: Problem,
    double: Problem,
    parts: Sequence[OwnPart],
    bases: Sequence[Pair],
    exact: Exactly,
) -> Iterator[list[Moved]]:
    """Of every part, by one replay after the other.

    Args:
        problem: in memory, in the dtype that the subject gets.
        double: the same in float64.
        parts: of its layers.
        bases: in which Lambda is measured.
        exact: what ``glimpse`` finds of ``double``.
    """
    roundoff = torch.finfo(problem.dtype).eps
    replayed = problem if _is_coarse(problem) else as_dtype(problem, torch.float32)
    unit = torch.finfo(replayed.dtype).eps
    steps = [(1.0, 1.0), (KINKS, KINKS**0.5)][: replays_of(problem) - 1]
    for seed, (ulps, times) in enumerate(steps):
        found = glimpse(shaken(replayed, ulps, seed), parts, bases)
        yield _differences(exact, found, roundoff / unit / times)
    found = glimpse(double, parts, bases, partial(_ByTerms, roundoff))
    yield _differences(exact, found, roundoff / _SMALL)


def replays_of(problem: Problem) -> int:
    """How many replays there are."""
    fine_enough = KINKS * torch.finfo(problem.dtype).eps < 1e-3  # else numbers would be others
    return 3 if _is_coarse(problem) and fine_enough else 2


def _is_coarse(problem: Problem) -> bool:
    return problem.dtype is not torch.float64


def _differences(exact: Exactly, found: Exactly, scale: float) -> list[Moved]:
    def norm(x: Tensor) -> float:
        return float(x.norm()) * scale

    moved = []
    for (factors, squares), (others, again) in zip(exact, found, strict=True):
        (B, A), (other_B, other_A) = factors.factors, others.factors
        off = again.eigenvalues - squares.eigenvalues
        moved.append(Moved(norm(other_A - A), norm(other_B - B), norm(off), norm(off.sum())))
    return moved


class _ByTerms(Known):
    """Columns off by _SMALL parts of their terms, with signs at random.

    Of the exact Fisher H = sum_c s_c s_c^T it is H that is off, by terms R_k R_l: one more column
    sqrt(_SMALL) R with signs. A score m - y is off by terms |m| + |y|, entry by entry.
    """

    def __init__(self, roundoff: float, *others: Any) -> None:
        super().__init__(*others)
        self._roundoff = roundoff

    def columns(self, f: Tensor, batch: Batch) -> Tensor:
        """[N, C or C + 1, *out]; where columns come in runs, one more in the first alone."""
        S = super().columns(f, batch)
        if self._some is not None and self._some.start > 0:
            return S
        generator = torch.Generator().manual_seed(batch.first)
        if isinstance(self.problem.fisher, Exact):
            R = output_sizes(self.problem, f, batch.targets, S, self._roundoff)
            more = R * _signs(R.shape, generator).to(R) * _SMALL**0.5
            return torch.cat([S, more[:, None]], 1)
        size = S * S.shape[1] ** 0.5  # the score of one draw
        mean = mean_of_label(self.problem, f)
        terms = size.abs() if mean is None else mean.abs()[:, None] + (mean[:, None] - size).abs()
        terms = terms * counted_outputs(self.problem, f, batch.targets)[:, None]
        return S + terms * _signs(S.shape, generator).to(S) * (_SMALL / S.shape[1] ** 0.5)


def _signs(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator) * 2 - 1
