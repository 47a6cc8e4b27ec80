"""Laws of what else an answer shows: a basis, factors."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.own_law import Weighed, as_own_law, norm, weigh
from ekfac_ref.conformance.subjects.matrices import BadAnswer, real
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.truth.tolerance import MISTAKE, LawBroken


@as_own_law("orthonormal basis", Lane.BASIS)
def _basis_is_orthonormal(one: Examined) -> Iterator[Weighed]:
    """Q_A^T Q_A = I and Q_B^T Q_B = I"""
    assert one.E is not None
    for Q in one.E.basis()[:2]:
        d, r = Q.shape
        residual = float((Q.T @ Q - torch.eye(r).double()).norm())
        yield weigh("Q^T Q = I", residual, 4 * one.known.roundoff * d, max(r, 1) ** 0.5)


@as_own_law("eigenbasis", Lane.BASIS)
def _basis_diagonalizes(one: Examined) -> Iterator[Weighed]:
    """Q_A^T A Q_A and Q_B^T B Q_B are diagonal, and nothing of A or B is outside a thin basis

    Of columns that are brought to length 1: what lengths and angles they have is no matter here.
    """
    assert one.E is not None
    for shown, spectrum in zip(one.E.basis()[:2], (one.known.B, one.known.A), strict=True):
        factor, Q = spectrum.factor, torch.nn.functional.normalize(shown, dim=0)
        M, span = Q.T @ factor @ Q, torch.linalg.qr(Q).Q
        inside = span @ (span.T @ factor @ span) @ span.T
        residual = (norm(M - M.diag().diag()) ** 2 + norm(factor - inside) ** 2) ** 0.5
        rounding = 2 * spectrum.off + one.known.roundoff * len(Q) ** 0.5 * float(factor.norm())
        yield weigh("Q^T A Q diagonal", residual, rounding, norm(factor))


@as_own_law("eigenvalues", Lane.BASIS)
def _eigenvalues_in_own_basis(one: Examined) -> Iterator[Weighed]:
    """Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2 in the subject's own basis"""
    assert one.E is not None
    if one.in_own_basis is None:
        return
    shown = one.E.basis()[2]
    size = norm(one.in_own_basis)
    rounding = one.known.off + one.product_rounding(max(size, norm(shown)))
    yield weigh("Lambda = diag(Q^T F Q)", norm(shown - one.in_own_basis), rounding, size)


@as_own_law("kfac", Lane.KFAC)
def _kfac_block(one: Examined) -> Iterator[Weighed]:
    """K V = B V A by the factors' definitions"""
    assert one.K is not None
    V, (B, A) = one.random(10), (one.known.B, one.known.A)
    b, a = norm(B.factor), norm(A.factor)
    residual = one.K.matvec(V.clone()).double() - B.factor @ V.double() @ A.factor
    rounding = B.off * a + b * A.off + one.product_rounding(b * a)
    yield weigh("K V = B V A", norm(residual), rounding, b * a)


@as_own_law("factors", Lane.FACTORS)
def _kfac_factors(one: Examined) -> Iterator[Weighed]:
    """A = s A* and B = B* / s by the definitions A* and B*, with one s > 0"""
    assert one.K is not None
    (B, A), (right_B, right_A) = _shown_factors(one.K), (one.known.B, one.known.A)
    a = norm(right_A.factor)
    if a <= MISTAKE * right_A.off:
        return
    s = float((A * right_A.factor).sum()) / a**2
    if s <= 0:
        raise LawBroken(f"A = s A*: s is {s:.3g}, and it is positive where A and B are moments")
    b = norm(right_B.factor)
    yield weigh("A = s A*", norm(A / s - right_A.factor), right_A.off, a)
    off = right_B.off + b * right_A.off / a
    yield weigh("B = B* / s", norm(s * B - right_B.factor), off, b)


def _shown_factors(K: Own) -> tuple[Tensor, Tensor]:
    B, A = (real(K.layer, name, getattr(K.operator, name)).double() for name in "BA")
    if (tuple(B.shape), tuple(A.shape)) != tuple((d, d) for d in K.shape):
        raise BadAnswer(
            f"layer {K.layer!r}: B and A have shapes {list(B.shape)} and {list(A.shape)}; expected "
            f"[d_out, d_out] and [d_in, d_in], [d_out, d_in] = {list(K.shape)}"
        )
    return B, A


ANSWER_LAWS = (
    *(_basis_is_orthonormal, _basis_diagonalizes, _eigenvalues_in_own_basis),
    *(_kfac_block, _kfac_factors),
)
