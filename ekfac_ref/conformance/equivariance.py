r"""Laws between two answers: what the same layer must say about data that was transformed.

EKFAC is a function of the data only where its eigenbasis is: a repeated eigenvalue leaves the basis
inside the cluster free, and two correct matrices can be far apart. So EKFAC matrices are compared
behind a gate, and where it is closed the laws that need no eigenvectors judge instead.
"""

import torch
from torch import Tensor

from ekfac_ref.conformance import laws, oracle
from ekfac_ref.conformance.observation import Observation
from ekfac_ref.conformance.tolerance import check, factor_scales, fisher_scale, length
from ekfac_ref.operators import Operator
from ekfac_ref.sharing import Expand

GATE = 1e-3


def relative_gap(factor: Tensor, null_space_is_silent: bool) -> float:
    """The smallest distance between two eigenvalues over the largest eigenvalue.

    Two zeros count as apart where no gradient lives between them: expand factors (or T = 1) of the
    same data.
    """
    w = torch.linalg.eigvalsh(factor)
    largest = float(w.abs().amax())
    if largest == 0:
        return 1.0 if null_space_is_silent else 0.0
    if null_space_is_silent:
        w = w[w > 1e-12 * largest]
    return float(w.diff().amin()) / largest if len(w) > 1 else 1.0


def gap(seen: Observation) -> float:
    """The smaller relative gap of A and B; ``GATE`` is what a comparison of EKFACs asks for."""
    silent = isinstance(seen.sharing, Expand) or all(len(a) == 1 for a in seen.a)
    return min(relative_gap(factor, silent) for factor in oracle.factors(seen))


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
    if distance < GATE:
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
