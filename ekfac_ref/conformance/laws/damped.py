r"""Backward errors of solutions, and how far rounding may move an inverse.

A solution of (M + d I) x = v by whatever algorithm is off by roundings of (|M| + d) |x|, and a
product of two inverses by roundings of both, and of their condition numbers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Factored, Tikhonov
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.eigengaps import ekfac_scale, gap, gate
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import block_scale, bounded, factor_scales, fisher_scale


def solves(
    law: str,
    product: Callable[[Tensor], Tensor],
    size: float,
    x: Tensor,
    V: Tensor,
    damping: float,
    seen: Observation,
) -> float:
    """M x + d x = V, with ``product`` V to M V and ``size`` a bound on the terms of M."""
    residual = product(x).double() + damping * x.double() - V.double()
    return bounded(law, residual, (size + damping) * float(x.double().norm()), seen)


def solves_factored(seen: Observation, x: Tensor, V: Tensor, damping: float) -> float | None:
    """(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V with the right B and A; None without a pi.

    Factors are inverted explicitly as a rule, which is off by roundings of their condition numbers
    times V: together (terms / d) |V|, since each is at least its part of the damping.
    """
    parts = oracle.parts_of_damping(seen, damping)
    if parts is None:
        return None
    left, right = (
        factor + part * torch.eye(len(factor), dtype=factor.dtype)
        for factor, part in zip(oracle.factors(seen), parts, strict=True)
    )
    residual = left @ x.double() @ right - V.double()
    law = "(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V"
    size = float(x.double().norm()) + float(V.double().norm()) / damping
    return bounded(law, residual, _factored_terms(seen, parts) * size, seen)


def _factored_terms(seen: Observation, parts: tuple[float, float]) -> float:
    return oracle.factored_terms(oracle.factors(seen), factor_scales(seen), parts)


def roundings_of_inverse(seen: Observation, how: Damping, damping: float) -> float | None:
    """What roundings of P are relative to; None where factored damping has no pi."""
    if isinstance(how, Factored):
        parts = oracle.parts_of_damping(seen, damping)
        return None if parts is None else _factored_terms(seen, parts) / damping**2
    terms = fisher_scale(seen) if isinstance(how, Tikhonov) else block_scale(seen)
    return (terms + damping) / damping**2


def undone(seen: Observation, how: Damping, x: Tensor, damping: float) -> Tensor | None:
    """P^-1 x by the right M, None where factored damping has no pi."""
    if isinstance(how, Factored):
        parts = oracle.parts_of_damping(seen, damping)
        if parts is None:
            return None
        B, A = (
            f + p * torch.eye(len(f)).to(f)
            for f, p in zip(oracle.factors(seen), parts, strict=True)
        )
        return B @ x @ A
    return product_of(seen, how)(x) + damping * x


def product_of(seen: Observation, how: Damping) -> Callable[[Tensor], Tensor]:
    """V to M V for the right M, E or B (x) A."""
    if isinstance(how, Tikhonov):
        E = oracle.ekfac_matrix(seen)
        return lambda V: (E @ V.reshape(-1)).reshape(V.shape)
    B, A = oracle.factors(seen)
    return lambda V: B @ V @ A


def largest_eigenvalue(seen: Observation, how: Damping) -> float:
    """A bound on the eigenvalues of M: the largest of F, which majorises E, or of B (x) A."""
    if isinstance(how, Tikhonov):
        return float(torch.linalg.matrix_norm(oracle.fisher(seen), 2))
    b, a = (float(torch.linalg.matrix_norm(factor, 2)) for factor in oracle.factors(seen))
    return b * a


def solves_as_declared(
    seen: Observation, how: Damping, x: Tensor, V: Tensor, d: float
) -> float | None:
    """x = P V by the right M, as a backward error; None where there is no one right M."""
    if isinstance(how, Factored):
        return solves_factored(seen, x, V, d)
    size = block_scale(seen)
    if isinstance(how, Tikhonov):
        eigengap = gap(seen)
        if eigengap < gate(seen.dtype):
            return None
        size = ekfac_scale(seen, eigengap)
    return solves("(M + d I) P V = V", product_of(seen, how), size, x, V, d, seen)
