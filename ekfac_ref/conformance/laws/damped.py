r"""Backward errors of solutions, and how far rounding may move an inverse.

A solution of (M + d I) x = v by whatever algorithm is off by roundings of (|M| + d) |x|, and a
product of two inverses by roundings of both; so no backward error grows with a condition number.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import bounded, factor_scales


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
    """(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V with the right B and A; None without a pi."""
    parts = oracle.parts_of_damping(seen, damping)
    if parts is None:
        return None
    left, right = (
        factor + part * torch.eye(len(factor), dtype=factor.dtype)
        for factor, part in zip(oracle.factors(seen), parts, strict=True)
    )
    residual = left @ x.double() @ right - V.double()
    law = "(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V"
    return bounded(law, residual, factored_terms(seen, parts) * float(x.double().norm()), seen)


def factored_terms(seen: Observation, parts: tuple[float, float]) -> float:
    """A bound on the terms of (B + sqrt(d) / pi I) (x) (A + sqrt(d) pi I).

    A rounding of tr B is b / tr B roundings of pi, where b bounds the terms of B; and of A alike.
    """
    size = 1.0
    rows = zip(oracle.factors(seen), factor_scales(seen), parts, strict=True)
    for factor, bound, part in rows:
        size *= bound + part * (1 + bound / float(factor.trace()))
    return size
