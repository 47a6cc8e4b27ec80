r"""When is a residual rounding? A ratio against a running-error scale, never against the result.

A sum of n products computed with unit roundoff u is off by at most about n u times the sum of the
*absolute values* of its terms. So every law hands in a residual, the scale built from absolute
values, and the summed lengths n. The scale of the result itself would not do: where terms cancel, a
correct float32 result can be any number of result-sized tolerances off.

Up to LIMIT the ratio residual / (scale n u) is rounding. Above MISTAKE it is none. Between the two
nobody is accused: a sum in an unlucky order, a function of torch's that is a few units off in its
last place, is as likely as a mistake, of which hardly any is so small.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.conformance.truth.observation import COVERED, Observation
from ekfac_ref.conformance.truth.remembered import remembered

LIMIT = 3.0
MISTAKE = 100.0


@dataclass(frozen=True)
class Doubt:
    """A residual that is too large for rounding to be likely, and too small for a mistake.

    Attributes:
        ratio: to rounding, between LIMIT and MISTAKE.
    """

    ratio: float

    def __str__(self) -> str:
        return (
            f"the residual is {self.ratio:.3g} times rounding: above {LIMIT:g}, up to which it is "
            f"rounding, and below {MISTAKE:g}, from which on it is none"
        )


class LawBroken(AssertionError):
    """A law does not hold: which, by how much, on what.

    Attributes:
        ratio: to rounding, where there is one; a law may also be a matter of yes or no.
    """

    def __init__(self, what: str, ratio: float = float("inf")) -> None:
        super().__init__(what)
        self.ratio = ratio


def bounded(
    law: str, residual: Tensor, scale: float, seen: Observation, summands: int = 0
) -> float:
    """The ratio ||residual|| / (scale n u), Frobenius norm; LawBroken where that is a MISTAKE.

    Args:
        law: what the message begins with.
        residual: zero, but for rounding; in float64.
        scale: of the absolute values of the terms that were summed, in the residual's units.
        seen: tells u, the roundoff of the subject's dtype, and n, unless that is given.
        summands: n, where it is another number than ``length(seen)``.
    """
    size = float(torch.linalg.vector_norm(residual.double()))
    n = summands or length(seen)
    if size == 0.0:
        return 0.0
    scale = max(scale, _underflow(seen.dtype))
    ratio = size / (scale * n * torch.finfo(seen.dtype).eps * seen.blur)
    if not ratio <= MISTAKE:  # a NaN breaks every law
        raise LawBroken(
            f"{law}: residual {size:.3g} is {ratio:.3g} times rounding (limit {MISTAKE:g}); "
            f"scale {scale:.3g}, {n} summands, {seen.dtype}",
            ratio,
        )
    return ratio


def length(seen: Observation) -> int:
    """Summed lengths: samples, columns and positions, and the contractions over d_out and d_in."""
    return sum(g.shape[0] * g.shape[1] for g in seen.g) + sum(seen.G[0].shape[1:])


@remembered
def fisher_scale(seen: Observation) -> float:
    """(1/N) sum_n (sum_t |g_nt| |a_nt|)^2 by the sizes of g and a: bounds the terms of F and E."""
    pairs = zip(seen.size_g, _sizes_a(seen), strict=True)
    return max(float(sum((g @ a) ** 2 for g, a in pairs)) / len(seen.g), _underflow(seen.dtype))


@remembered
def factor_scales(seen: Observation) -> tuple[float, float]:
    """Bounds on ||B|| and ||A|| under either sharing, from the sizes of all g and a."""
    b = float(sum(g.sum() ** 2 for g in seen.size_g)) / len(seen.g)
    a = max(float(a.amax()) ** 2 for a in _sizes_a(seen) if a.numel())
    floor = _underflow(seen.dtype)
    return max(b, floor), max(a, floor)


def block_scale(seen: Observation) -> float:
    """A bound on the absolute values behind any block, F, K or E: F's, or the factors' product."""
    b, a = factor_scales(seen)
    return max(fisher_scale(seen), b * a)


def own_scale(matrix: Tensor, scale: float) -> float:
    """For what is said of a subject's own arithmetic, whose roundings are of its own size.

    A matrix that is far too large is wrong, but for that it is no less symmetric.
    """
    return max(scale, float(torch.linalg.matrix_norm(matrix)))


def _underflow(dtype: torch.dtype) -> float:
    """The size whose roundoff is the smallest normal number.

    Below that a product may be flushed to zero, which is an absolute error and no relative one: a
    scale so small bounds nothing.
    """
    return torch.finfo(dtype).tiny / torch.finfo(dtype).eps


def _sizes_a(seen: Observation) -> list[Tensor]:
    """|a_nt|, or more where rounding moves a_nt by more than a few of its own roundings."""
    pairs = zip(seen.a, seen.rounding_a, strict=True)
    return [torch.maximum(a.norm(dim=1), moved / COVERED) for a, moved in pairs]
