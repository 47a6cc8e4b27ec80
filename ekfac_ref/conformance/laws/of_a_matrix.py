r"""Laws of one answer: what must hold between one layer's operator and what the layer saw.

Every law is a plain function of an operator and an ``Observation``; it returns the ratio that
``tolerance.check`` bounds, or raises LawBroken. F, A, B are the oracle's. Sources: George et al.
2018 (1806.03884) for the eigenvalues; Martens & Grosse 2015 (1503.05671) for KFAC; the rest is
linear algebra, derived in docs/laws.md.
"""

import torch
from torch import Tensor

from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import check, factor_scales, fisher_scale, length
from ekfac_ref.matrix.operators import EigenKronecker, Operator


def dense(operator: Operator) -> Tensor:
    """The matrix by its action alone: column (o, i) is vec(matvec(E_oi)), in float64."""
    d_out, d_in = operator.shape
    basis = torch.eye(d_out * d_in).reshape(-1, d_out, d_in)
    like = operator.trace()
    columns = [operator.matvec(V.to(like)).reshape(-1).double() for V in basis]
    return torch.stack(columns, 1)


def gradient_is_sum_over_positions(seen: Observation) -> float:
    """G_nc = sum_t g_nct a_nt^T."""
    residual = [
        G - torch.einsum("cto,ti->coi", g, a)
        for G, g, a in zip(seen.G, seen.g, seen.a, strict=True)
    ]
    scale = (fisher_scale(seen) * len(seen.G)) ** 0.5
    flat = torch.cat([r.reshape(-1) for r in residual])
    return check("G = sum_t g a^T", flat, scale, length(seen), torch.float64)


def symmetry(operator: Operator, seen: Observation) -> float:
    """M = M^T."""
    M = dense(operator)
    return check("M = M^T", M - M.T, _scale(operator, seen), length(seen), seen.dtype)


def psd(operator: Operator, seen: Observation) -> float:
    """No eigenvalue of M is below zero by more than rounding."""
    M = dense(operator)
    negative = torch.linalg.eigvalsh((M + M.T) / 2).clamp(max=0)
    return check("M >= 0", negative, _scale(operator, seen), length(seen), seen.dtype)


def dense_is_matvec(operator: Operator, seen: Observation) -> float:
    """dense() vec(V) = vec(matvec(V)) for all V, rows stacked."""
    residual = operator.dense().double() - dense(operator)
    return check("dense = matvec", residual, _scale(operator, seen), length(seen), seen.dtype)


def is_fisher(operator: Operator, seen: Observation) -> float:
    """M = F. The law of the exact block, and of KFAC and EKFAC where they are exact."""
    residual = dense(operator) - oracle.fisher(seen)
    return check("M = F", residual, _scale(operator, seen), length(seen), seen.dtype)


def trace(E: Operator, seen: Observation) -> float:
    """tr E = tr F = (1/N) sum_nc |G_nc|^2."""
    expected = sum(float((G**2).sum()) for G in seen.G) / len(seen.G)
    residual = E.trace().double() - expected
    return check("tr E = tr F", residual, fisher_scale(seen), length(seen), seen.dtype)


def eigenvalues_are_the_diagonal(E: EigenKronecker, seen: Observation) -> float:
    """Lambda = diag(Q^T F Q) in E's own basis, by the definition."""
    expected = oracle.eigenvalues(seen, E.Q_B.double(), E.Q_A.double())
    residual = E.eigenvalues.double() - expected
    return check("Lambda = diag(Q^T F Q)", residual, fisher_scale(seen), length(seen), seen.dtype)


def basis_is_orthonormal(E: EigenKronecker, seen: Observation) -> float:
    """Q^T Q = I for both bases."""
    residual = [Q.T.double() @ Q.double() - torch.eye(Q.shape[1]).double() for Q in (E.Q_B, E.Q_A)]
    flat = torch.cat([r.reshape(-1) for r in residual])
    return check("Q^T Q = I", flat, 1.0, length(seen), seen.dtype)


def basis_diagonalizes_the_factors(E: EigenKronecker, seen: Observation) -> float:
    """Q_B^T B Q_B and Q_A^T A Q_A are diagonal, and nothing of B, A lies outside a thin basis."""
    ratios = []
    pairs = zip((E.Q_B, E.Q_A), oracle.factors(seen), factor_scales(seen), strict=True)
    for Q, factor, scale in pairs:
        rotated = Q.T.double() @ factor @ Q.double()
        kept = Q.double() @ torch.diag(rotated.diagonal()) @ Q.T.double()
        ratios.append(check("Q^T A Q diagonal", factor - kept, scale, length(seen), seen.dtype))
    return max(ratios)


def factors_by_definition(K: Operator, seen: Observation) -> float:
    """B (x) A is the Kronecker product of the factors' definitions (1/T may sit in either)."""
    B, A = oracle.factors(seen)
    residual = dense(K) - torch.kron(B, A)
    return check("K = B (x) A", residual, _scale(K, seen), length(seen), seen.dtype)


def commutes_with_factors(E: Operator, seen: Observation) -> float:
    """E (I (x) A) = (I (x) A) E and E (B (x) I) = (B (x) I) E: no eigenvector is needed to ask."""
    M = dense(E)
    B, A = oracle.factors(seen)
    b, a = factor_scales(seen)
    left = torch.kron(B, torch.eye(len(A)).double())
    right = torch.kron(torch.eye(len(B)).double(), A)
    return max(
        check("[E, B (x) I] = 0", M @ left - left @ M, _F(seen) * b, length(seen), seen.dtype),
        check("[E, I (x) A] = 0", M @ right - right @ M, _F(seen) * a, length(seen), seen.dtype),
    )


def moments(E: Operator, seen: Observation) -> float:
    """tr E (B^p (x) A^q) = tr F (B^p (x) A^q) for p, q up to 2; p = q = 0 is the trace."""
    difference = dense(E) - oracle.fisher(seen)
    B, A = oracle.factors(seen)
    b, a = factor_scales(seen)
    ratios = []
    for p in range(3):
        for q in range(3):
            weight = torch.kron(torch.matrix_power(B, p), torch.matrix_power(A, q))
            scale = _F(seen) * b**p * a**q
            residual = (difference * weight).sum()
            ratios.append(check("moments", residual, scale, length(seen), seen.dtype))
    return max(ratios)


def projects_onto_itself(E: Operator, seen: Observation) -> float:
    """tr(E F) = ||E||^2: E is the orthogonal projection of F onto the diagonal of some basis."""
    M = dense(E)
    residual = (M * oracle.fisher(seen)).sum() - (M**2).sum()
    return check("tr EF = |E|^2", residual, _F(seen) ** 2, length(seen), seen.dtype)


def spectrum_is_majorised(E: Operator, seen: Observation) -> float:
    """Sums of the k largest eigenvalues of E do not exceed those of F (Schur-Horn)."""
    spectra = [torch.linalg.eigvalsh(M) for M in (_symmetric(E), oracle.fisher(seen))]
    sums = [spectrum.flip(0).cumsum(0) for spectrum in spectra]
    excess = (sums[0] - sums[1]).clamp(min=0).amax()
    summands = length(seen) + len(spectra[0])
    return check("spec E < spec F", excess, _F(seen), summands, seen.dtype)


def not_further_than_kfac(E: Operator, K: Operator, seen: Observation) -> float:
    """||F - E|| <= ||F - K||, with equality where KFAC is exact."""
    F = oracle.fisher(seen)
    excess = (F - dense(E)).norm() - (F - dense(K)).norm()
    scale = _scale(K, seen) + _F(seen)
    return check("|F-E| <= |F-K|", excess.clamp(min=0), scale, length(seen), seen.dtype)


def pythagoras(E: Operator, K: Operator, seen: Observation) -> float:
    """||F - K||^2 = ||F - E||^2 + ||E - K||^2 for E and K diagonal in the same basis."""
    F, M, L = oracle.fisher(seen), dense(E), dense(K)
    residual = (F - L).norm() ** 2 - (F - M).norm() ** 2 - (M - L).norm() ** 2
    scale = (_scale(K, seen) + _F(seen)) ** 2
    return check("Pythagoras", residual, scale, length(seen), seen.dtype)


def solves(operator: Operator, V: Tensor, damping: float, seen: Observation) -> float:
    """(M + damping I) solve(V) = V, as a backward error."""
    x = operator.solve(V.clone(), damping=damping)
    residual = operator.matvec(x).double() + damping * x.double() - V.double()
    scale = (_scale(operator, seen) + damping) * float(x.double().norm())
    return check("(M + damping I) x = V", residual, scale, length(seen), seen.dtype)


def _scale(operator: Operator, seen: Observation) -> float:
    """A bound on the absolute values behind any block: F's, or the product of the factors'."""
    b, a = factor_scales(seen)
    return max(_F(seen), b * a)


def _F(seen: Observation) -> float:
    return fisher_scale(seen)


def _symmetric(E: Operator) -> Tensor:
    M = dense(E)
    return (M + M.T) / 2
