r"""Laws between two answers: what the same layer must say about data that was transformed.

EKFAC is a function of the data only where its eigenbasis is: a repeated eigenvalue leaves the basis
inside the cluster free, and two correct matrices can be far apart. So EKFAC matrices are compared
behind a gate, and where it is closed the laws that need no eigenvectors judge instead.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ekfac_ref.conformance.laws import of_a_matrix as laws
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import check, factor_scales, fisher_scale, length
from ekfac_ref.matrix.operators import Operator
from ekfac_ref.question.sharing import Expand

GATE = 1e-3


def gate(dtype: torch.dtype) -> float:
    """The gap that a comparison of EKFACs asks for; wide enough for eigenvectors to be there at all
    where data is coarse.
    """
    return max(GATE, 30 * torch.finfo(dtype).eps)


def gap(seen: Observation) -> float:
    """The smaller gap of A and B; ``gate`` is what a comparison of EKFACs asks for.

    A gap is the smallest distance between two eigenvalues over the bound on the factor
    (``factor_scales``): rounding moves the factor by some roundings of the bound, and an
    eigenvector by as many over the gap. Two zeros count as apart where no gradient lives between
    them: expand factors (or T = 1) of the same data.
    """
    silent = isinstance(seen.sharing, Expand) or all(len(a) == seen.runs for a in seen.a)
    return _smaller_gap(seen, _gap_above_zero if silent else _gap)


def gap_with_zeros(seen: Observation) -> float:
    """The same, where two zeros never count as apart: what a wrong EKFAC may depend on."""
    return _smaller_gap(seen, _gap)


def ekfac_scale(seen: Observation, gap: float) -> float:
    """What the roundings of E are relative to, those of its basis included, behind the gate.

    An eigenvector is turned by some roundings of 1 / gap, and what it is turned into differs by at
    most ||F||. Toward the null space, where no gap is asked for, a vector of eigenvalue beta is
    turned by some roundings of b / beta, but its Lambda is at most beta a.
    """
    b, a = factor_scales(seen)
    return max(fisher_scale(seen) / gap, b * a)


def _smaller_gap(seen: Observation, gap_of: Callable[[Tensor], float]) -> float:
    pairs = zip(oracle.factors(seen), factor_scales(seen), strict=True)
    return min(gap_of(torch.linalg.eigvalsh(factor) / bound) for factor, bound in pairs)


def _gap(w: Tensor) -> float:
    return float(w.diff().amin()) if len(w) > 1 else 1.0


def _gap_above_zero(w: Tensor) -> float:
    return _gap(w[w > 1e-12 * w.abs().amax()])


def turned(one: Operator, other: Operator, U: Tensor, R: Tensor, seen: Observation) -> float:
    """M(U g, R a) = (U (x) R) M(g, a) (U (x) R)^T for F and KFAC (there for any U, R)."""
    Q = torch.kron(U.contiguous(), R.contiguous())
    residual = laws.dense(other) - Q @ laws.dense(one) @ Q.T
    return check("M(Ug, Ra) = Q M Q^T", residual, _scale(seen, U, R), length(seen), seen.dtype)


def ekfac_turned(
    one: Operator, other: Operator, U: Tensor, R: Tensor, before: Observation, after: Observation
) -> bool:
    """The same for EKFAC and orthogonal U, R, behind the gate. Returns whether it was open.

    ``one`` answers for ``before`` and ``other`` for ``after``.
    """
    distance = gap(before)
    if distance < gate(before.dtype):
        for operator, seen in ((one, before), (other, after)):
            laws.trace(operator, seen)
            laws.commutes_with_factors(operator, seen)
            laws.moments(operator, seen)
            laws.projects_onto_itself(operator, seen)
        return False
    Q = torch.kron(U.contiguous(), R.contiguous())
    residual = laws.dense(other) - Q @ laws.dense(one) @ Q.T
    scale = _scale(before, U, R) / distance
    check("E(Ug, Ra) = Q E Q^T", residual, scale, length(before), before.dtype)
    return True


def unchanged(one: Operator, other: Operator, seen: Observation) -> float:
    """Two answers for the same layer are the same matrix (F and KFAC)."""
    residual = laws.dense(other) - laws.dense(one)
    eye = torch.eye(1, dtype=torch.float64)
    return check("unchanged", residual, _scale(seen, eye, eye), length(seen), seen.dtype)


def ekfac_unchanged(one: Operator, other: Operator, seen: Observation) -> bool:
    """The same for EKFAC, behind the gate."""
    U, R = (torch.eye(d, dtype=torch.float64) for d in one.shape)
    return ekfac_turned(one, other, U, R, seen, seen)


def _scale(seen: Observation, U: Tensor, R: Tensor) -> float:
    b, a = factor_scales(seen)
    stretch = float(torch.linalg.matrix_norm(U, 2) * torch.linalg.matrix_norm(R, 2)) ** 2
    return max(fisher_scale(seen), b * a) * max(1.0, stretch)
