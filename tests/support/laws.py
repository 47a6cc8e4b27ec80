"""The kit's laws, asked of an operator of the reference on what a layer saw; and laws for it alone.

Each function returns the ratio to rounding, or raises LawBroken.
"""

from dataclasses import replace

import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.laws import of_a_case, of_a_matrix
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.laws.of_two_answers import unchanged as unchanged_blocks
from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.eigengaps import gap, gate
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import block_scale, bounded, fisher_scale


def dense(operator: ek.Operator) -> Tensor:
    """The matrix by its action alone: column (o, i) is vec(matvec(E_oi)), in float64."""
    d_out, d_in = operator.shape
    like = operator.trace()
    units = torch.eye(d_out * d_in).reshape(-1, d_out, d_in).to(like)
    return torch.stack([operator.matvec(V).reshape(-1).double() for V in units], 1)


def answered(operator: ek.Operator, seen: Observation, way: str = "ekfac") -> Answered:
    """The operator as a subject's answer."""
    return Answered(way, seen, dense(operator), Own(operator, "", seen.shape))


def _of_a_block(law: Law):
    return lambda operator, seen: law.formula(answered(operator, seen))


symmetry = _of_a_block(of_a_matrix.symmetry)
psd = _of_a_block(of_a_matrix.positive_semidefinite)
trace = _of_a_block(of_a_matrix.trace)
commutes = _of_a_block(of_a_matrix.commutes)
moments = _of_a_block(of_a_matrix.moments)
self_projection = _of_a_block(of_a_matrix.self_projection)
majorisation = _of_a_block(of_a_matrix.majorisation)
is_fisher = _of_a_block(of_a_case.exact_block)
factors_by_definition = _of_a_block(of_a_case.kfac_block)
basis_is_orthonormal = _of_a_block(of_a_case.basis_is_orthonormal)
basis_diagonalizes_the_factors = _of_a_block(of_a_case.basis_diagonalizes_the_factors)
eigenvalues_are_the_diagonal = _of_a_block(of_a_case.eigenvalues_are_the_diagonal)
pythagoras = _of_a_block(of_a_case.pythagoras)


def gradient_is_sum_over_positions(seen: Observation) -> float:
    """G_nc = sum_t g_nct a_nt^T, the two ways by which the kit takes them."""
    residual = [
        G - torch.einsum("cto,ti->coi", g, a)
        for G, g, a in zip(seen.G, seen.g, seen.a, strict=True)
    ]
    scale = (fisher_scale(seen) * len(seen.G)) ** 0.5
    flat = torch.cat([r.reshape(-1) for r in residual])
    return bounded("G = sum_t g a^T", flat, scale, replace(seen, dtype=torch.float64))


def dense_is_matvec(operator: ek.Operator, seen: Observation) -> float:
    """dense() vec(V) = vec(matvec(V)) for all V, rows stacked; and trace() is its trace."""
    matrix = operator.dense().double()
    bounded("trace() = tr dense()", operator.trace() - matrix.trace(), block_scale(seen), seen)
    return bounded("dense = matvec", matrix - dense(operator), block_scale(seen), seen)


def not_further_than_kfac(E: ek.Operator, K: ek.Operator, seen: Observation) -> float:
    """||F - E|| <= ||F - K||, with equality where KFAC is exact."""
    F = oracle.fisher(seen)
    excess = (F - dense(E)).norm() - (F - dense(K)).norm()
    scale = block_scale(seen) + fisher_scale(seen)
    return bounded("|F-E| <= |F-K|", excess.clamp(min=0), scale, seen)


def solves(operator: ek.Operator, V: Tensor, damping: float, seen: Observation) -> float:
    """(M + damping I) solve(V) = V, as a backward error."""
    x = operator.solve(V.clone(), damping=damping)
    residual = operator.matvec(x).double() + damping * x.double() - V.double()
    scale = (block_scale(seen) + damping) * float(x.double().norm())
    return bounded("(M + damping I) x = V", residual, scale, seen)


def turned(one: ek.Operator, other: ek.Operator, U: Tensor, R: Tensor, seen: Observation) -> float:
    """M(U g, R a) = (U (x) R) M(g, a) (U (x) R)^T for F and KFAC (there for any U, R)."""
    Q = torch.kron(U.contiguous(), R.contiguous())
    residual = dense(other) - Q @ dense(one) @ Q.T
    return bounded("M(Ug, Ra) = Q M Q^T", residual, _scale(seen, U, R), seen)


def ekfac_turned(
    one: ek.Operator,
    other: ek.Operator,
    U: Tensor,
    R: Tensor,
    before: Observation,
    after: Observation,
) -> bool:
    """E(U g, R a) = (U (x) R) E(g, a) (U (x) R)^T for orthogonal U, R, behind the gate.

    ``one`` answers for ``before`` and ``other`` for ``after``. Returns whether the gate was open;
    where it is closed, the laws that need no eigenvectors judge both.
    """
    eigengap = gap(before)
    if eigengap < gate(before.dtype):
        for operator, seen in ((one, before), (other, after)):
            for law in (trace, commutes, moments, self_projection):
                law(operator, seen)
        return False
    Q = torch.kron(U.contiguous(), R.contiguous())
    residual = dense(other) - Q @ dense(one) @ Q.T
    bounded("E(Ug, Ra) = Q E Q^T", residual, _scale(before, U, R) / eigengap, before)
    return True


def unchanged(one: ek.Operator, other: ek.Operator, seen: Observation) -> float:
    """Two answers for the same layer are the same matrix (F and KFAC)."""
    return unchanged_blocks(answered(one, seen, "kfac"), answered(other, seen, "kfac"))


def ekfac_unchanged(one: ek.Operator, other: ek.Operator, seen: Observation) -> bool:
    """Two answers of EKFAC for the same layer are the same matrix, behind the gate."""
    U, R = (torch.eye(d, dtype=torch.float64) for d in one.shape)
    return ekfac_turned(one, other, U, R, seen, seen)


def _scale(seen: Observation, U: Tensor, R: Tensor) -> float:
    stretch = float(torch.linalg.matrix_norm(U, 2) * torch.linalg.matrix_norm(R, 2)) ** 2
    return block_scale(seen) * max(1.0, stretch)
