r"""A, B, F and Lambda written down as their definitions, a row for every term of a sum.

``kfac.py`` and ``ekfac.py`` are judged by this file like any other implementation, so it shares
nothing with them: no streaming, no thin bases, no pooled rows.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.conformance.truth.remembered import remembered
from ekfac_ref.conformance.truth.tolerance import factor_scales, length
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.question.sharing import Expand

_Square = Float[Tensor, "d d"]
_Factors = tuple[Float[Tensor, "d_out d_out"], Float[Tensor, "d_in d_in"]]


def fisher(seen: Observation) -> _Square:
    """F = (1/N) sum_n sum_c vec(G_nc) vec(G_nc)^T."""
    vec_G = torch.cat([*seen.G]).flatten(1)
    return vec_G.T @ vec_G / len(seen.G)


@remembered
def factors(seen: Observation) -> _Factors:
    """(B, A) under the problem's sharing."""
    return _expand(seen) if isinstance(seen.sharing, Expand) else _reduce(seen)


def _expand(seen: Observation) -> _Factors:
    """B = (1/N) sum_nct g g^T,  A = (1/M) sum_nt a a^T over the M positions that count."""
    g = torch.cat([g.flatten(0, 1) for g in seen.g])
    # Stacked, not joined: where nothing counts there is no A, and that is an error, not a NaN.
    a = torch.stack([a_t for a, counted in _pairs(seen) for a_t in a[counted]])
    return g.T @ g / len(seen.g), a.T @ a / len(a)


def _reduce(seen: Observation) -> _Factors:
    """B = (1/N) sum_nc ghat ghat^T,  A = (1/N+) sum_n abar abar^T, the mean of it over all runs."""
    abar = torch.stack([a[counted].mean(0) for a, counted in _runs(seen) if counted.any()])
    ghat = torch.cat([g.sum(1) for g in seen.g])
    return ghat.T @ ghat / len(seen.g), abar.T @ abar / len(abar)


def eigenvalues(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Float[Tensor, "r_out r_in"]:
    """Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2 in any orthonormal basis."""
    return ((Q_B.T @ torch.cat([*seen.G]) @ Q_A) ** 2).sum(0) / len(seen.G)


def ekfac_matrix(seen: Observation) -> _Square:
    """E with eigenbases of this file's own factors: one legal choice where they are degenerate."""
    B, A = factors(seen)
    Q_B, Q_A = (eigh(factor)[1].contiguous() for factor in (B, A))
    Q = torch.kron(Q_B, Q_A)
    return Q @ torch.diag(eigenvalues(seen, Q_B, Q_A).reshape(-1)) @ Q.T


def gradients_of_layers(seen: Observations) -> dict[str, list[Tensor]]:
    """{layer: the [C_n, d_out, d_in] of every sample}, the rows of groups below one another."""
    return {
        name: [torch.cat(of_sample, 1) for of_sample in zip(*(g.G for g in groups), strict=True)]
        for name, groups in seen.items()
    }


def product_with_all(seen: Observations, V: dict[str, Tensor]) -> dict[str, Tensor]:
    """F V of all layers together: (1/N) sum_nc G_nc <G_nc, V>, the inner product over layers."""
    G = gradients_of_layers(seen)
    samples = range(len(next(iter(G.values()))))
    inner = [_sum((G[name][n] * x).sum((1, 2)) for name, x in V.items()) for n in samples]
    return {
        name: _sum(torch.einsum("c,coi->oi", inner[n], G[name][n]) for n in samples) / len(samples)
        for name in V
    }


def parts_of_damping(seen: Observation, damping: float) -> tuple[float, float] | None:
    """(sqrt(d) / pi, sqrt(d) pi) for the B and A of what a layer saw; see ``parts_by_traces``."""
    rounding = length(seen) * torch.finfo(seen.dtype).eps
    return parts_by_traces(factors(seen), factor_scales(seen), rounding, damping)


def parts_by_traces(
    factors: _Factors, bounds: tuple[float, float], rounding: float, damping: float
) -> tuple[float, float] | None:
    """(sqrt(d) / pi, sqrt(d) pi) for B and A, pi^2 = (tr A / d_in) / (tr B / d_out).

    None where either trace is no more than rounding of its bound: then there is no pi.
    """
    B, A = factors
    sizes = [float(factor.trace()) for factor in factors]
    if any(x <= rounding * bound for x, bound in zip(sizes, bounds, strict=True)):
        return None
    pi = ((sizes[1] / len(A)) / (sizes[0] / len(B))) ** 0.5
    return damping**0.5 / pi, damping**0.5 * pi


def factored_terms(
    factors: _Factors, bounds: tuple[float, float], parts: tuple[float, float]
) -> float:
    """A bound on the terms of (B + sqrt(d) / pi I) (x) (A + sqrt(d) pi I).

    A rounding of tr B is b / tr B roundings of pi, where b bounds the terms of B; and of A alike.
    """
    size = 1.0
    for factor, bound, part in zip(factors, bounds, parts, strict=True):
        size *= bound + part * (1 + bound / float(factor.trace()))
    return size


def _pairs(seen: Observation) -> list[tuple[Tensor, Tensor]]:
    return list(zip(seen.a, seen.counted, strict=True))


def _runs(seen: Observation) -> list[tuple[Tensor, Tensor]]:
    return [
        run
        for a, counted in _pairs(seen)
        for run in zip(a.chunk(seen.runs), counted.chunk(seen.runs), strict=True)
    ]


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum(0)
