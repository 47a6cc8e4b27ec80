r"""Backward errors of solutions: x put into the equation that it should solve.

A solution of (M + d I) x = v by whatever algorithm is off by roundings of (|M| + d) |x|, and a
product of two inverses by roundings of both; so nothing here grows with a condition number.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import bounded, factor_scales, length


def solves_factored(seen: Observation, x: Tensor, V: Tensor, damping: float) -> float | None:
    """(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V with the right B and A; None without a pi.

    pi^2 = (tr A / d_in) / (tr B / d_out). A rounding of tr B is b / tr B roundings of pi, where b
    bounds the terms of B; and of A likewise.
    """
    B, A = oracle.factors(seen)
    b, a = factor_scales(seen)
    of_B, of_A = float(B.trace()), float(A.trace())
    rounding = length(seen) * torch.finfo(seen.dtype).eps
    if of_B <= rounding * b or of_A <= rounding * a:
        return None
    pi = math.sqrt((of_A / len(A)) / (of_B / len(B)))
    for_B, for_A = math.sqrt(damping) / pi, math.sqrt(damping) * pi
    left = B + for_B * torch.eye(len(B), dtype=B.dtype)
    right = A + for_A * torch.eye(len(A), dtype=A.dtype)
    terms = (b + for_B * (1 + b / of_B)) * (a + for_A * (1 + a / of_A))
    residual = left @ x.double() @ right - V.double()
    law = "(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V"
    return bounded(law, residual, terms * float(x.double().norm()), seen)


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
