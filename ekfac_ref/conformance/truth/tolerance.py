r"""When is a residual rounding? A ratio against a running-error scale, never against the result.

A sum of n products computed with unit roundoff u is off by at most about n u times the sum of the
*absolute values* of its terms. So every law hands in a residual, the scale built from absolute
values, and the summed lengths n; the ratio residual / (scale n u) must not exceed LIMIT. The scale
of the result itself would not do: where terms cancel, a correct float32 result can be any number of
result-sized tolerances off.
"""

import torch
from torch import Tensor

from ekfac_ref.conformance.truth.observation import Observation

LIMIT = 3.0


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
    """The ratio ||residual|| / (scale n u), Frobenius norm; LawBroken unless it is at most LIMIT.

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
    unit = n * torch.finfo(seen.dtype).eps
    ratio = size / (scale * unit) if scale > 0 else float("inf")
    if not ratio <= LIMIT:  # a NaN breaks every law
        raise LawBroken(
            f"{law}: residual {size:.3g} is {ratio:.3g} times rounding (limit {LIMIT:g}); "
            f"scale {scale:.3g}, {n} summands, {seen.dtype}",
            ratio,
        )
    return ratio


def length(seen: Observation) -> int:
    """Summed lengths: samples, columns and positions, and the contractions over d_out and d_in."""
    return sum(g.shape[0] * g.shape[1] for g in seen.g) + sum(seen.G[0].shape[1:])


def fisher_scale(seen: Observation) -> float:
    """(1/N) sum_nc (sum_t |g_nct| |a_nt|)^2, which bounds ||F||, ||E|| and every part of them."""
    total = sum(((g @ a) ** 2).sum() for a, g in zip(_sizes_a(seen), _sizes_g(seen), strict=True))
    return max(float(total) / len(seen.g), _underflow(seen.dtype))


def factor_scales(seen: Observation) -> tuple[float, float]:
    """Bounds on ||B|| and ||A|| under either sharing, from the norms of all g and a."""
    b = sum((g.sum(1) ** 2).sum() for g in _sizes_g(seen))
    a = max(a.amax() ** 2 for a in _sizes_a(seen))
    floor = _underflow(seen.dtype)
    return max(float(b) / len(seen.g), floor), max(float(a), floor)


def block_scale(seen: Observation) -> float:
    """A bound on the absolute values behind any block, F, K or E: F's, or the factors' product."""
    b, a = factor_scales(seen)
    return max(fisher_scale(seen), b * a)


def _underflow(dtype: torch.dtype) -> float:
    """The size whose roundoff is the smallest normal number.

    Below that a product may be flushed to zero, which is an absolute error and no relative one: a
    scale so small bounds nothing.
    """
    return torch.finfo(dtype).tiny / torch.finfo(dtype).eps


# Roundings of a and g that the summed lengths cover; a network that amplifies more counts as large.
_COVERED = 2


def _sizes_a(seen: Observation) -> list[Tensor]:
    """|a_nt|, or more where rounding moves a_nt by more than a few of its own roundings."""
    pairs = zip(seen.a, seen.rounding_a, strict=True)
    return [torch.maximum(a.norm(dim=1), moved / _COVERED) for a, moved in pairs]


def _sizes_g(seen: Observation) -> list[Tensor]:
    pairs = zip(seen.g, seen.rounding_g, strict=True)
    return [torch.maximum(g.norm(dim=2), moved / _COVERED) for g, moved in pairs]
