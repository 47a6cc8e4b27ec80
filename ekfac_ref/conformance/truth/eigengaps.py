r"""How far apart the eigenvalues of A and B are: where there is one EKFAC, and where several.

EKFAC is a function of the data only where its eigenbasis is: a repeated eigenvalue leaves the basis
inside the cluster free, and two correct matrices can be far apart. So EKFAC matrices are compared
behind a gate, and where it is closed the laws that need no eigenvectors judge instead.
"""

import torch
from torch import Tensor

from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.remembered import remembered
from ekfac_ref.conformance.truth.tolerance import factor_scales, fisher_scale
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.question.sharing import Expand

# Relative to the bound on a factor, which is some ten times the factor. Wide against float64's and
# float32's rounding over a gap, and most drawn problems pass: it was chosen for that.
GATE = 1e-4
# In bfloat16 eigenvectors need a gap of several roundings to be there at all.
_ROUNDINGS = 30
# Eigenvalues this small, relative to the largest, are zeros that LAPACK did not hit.
_ZERO = 1e-12


def gate(dtype: torch.dtype) -> float:
    """The gap that a comparison of EKFACs needs on data in this dtype."""
    return max(GATE, _ROUNDINGS * torch.finfo(dtype).eps)


@remembered
def gap(seen: Observation) -> float:
    """The smaller gap of A and B; at ``gate`` or above it there is one EKFAC to compare with.

    A gap is the smallest distance between two eigenvalues over the bound on the factor
    (``factor_scales``): rounding moves the factor by some roundings of the bound, and an
    eigenvector by as many over the gap. Two zeros count as apart where no gradient lives between
    them: expand factors (or T = 1) of the same data.
    """
    return gap_of(oracle.factors(seen), factor_scales(seen), silent(seen))


def silent(seen: Observation) -> bool:
    """Whether no gradient lives in the null spaces of A and B: expand factors, or T = 1."""
    return isinstance(seen.sharing, Expand) or all(len(a) == seen.runs for a in seen.a)


def gap_of(factors: tuple[Tensor, Tensor], bounds: tuple[float, float], zeros_apart: bool) -> float:
    """The smaller gap of two factors, each over a bound on it."""
    of = _gap_above_zero if zeros_apart else _gap
    return min(of(eigh(M)[0] / bound) for M, bound in zip(factors, bounds, strict=True))


@remembered
def gap_with_zeros(seen: Observation) -> float:
    """The smaller gap of A and B where two zeros never count as apart.

    What a wrong EKFAC may depend on, where the right one does not.
    """
    return gap_of(oracle.factors(seen), factor_scales(seen), zeros_apart=False)


def ekfac_scale(seen: Observation, gap: float) -> float:
    """What the roundings of E are relative to, those of its basis included, behind the gate.

    An eigenvector is turned by some roundings of 1 / gap, and what it is turned into differs by at
    most ||F||. Toward the null space, where no gap is needed, a vector of eigenvalue beta is
    turned by some roundings of b / beta, but its Lambda is at most beta a.
    """
    b, a = factor_scales(seen)
    return max(fisher_scale(seen) / gap, b * a)


def _gap(w: Tensor) -> float:
    return float(w.diff().amin()) if len(w) > 1 else 1.0


def _gap_above_zero(w: Tensor) -> float:
    return _gap(w[w > _ZERO * w.abs().amax()])
