"""Laws of what solves with E or K: a ``solve`` of its own, or a preconditioner of all layers."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Factored, Tikhonov
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.of_products import GATE_WIDTH
from ekfac_ref.conformance.own_model.laws.own_law import Weighed, as_own_law, norm, weigh
from ekfac_ref.conformance.own_model.laws.readings import free_of_products, off_of_products
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.truth.oracle import parts_by_traces
from ekfac_ref.conformance.truth.tolerance import MISTAKE, LawBroken


def _middle_of(one: Examined) -> float:
    """The power of ten at the eigenvalues that make up most of E; 0 where there are none."""
    Lambda = one.known.Lambda
    total = float(Lambda.sum())
    mean = float((Lambda**2).sum()) / total if total > 0 else 0.0
    return 10.0 ** round(float(torch.tensor(mean).log10())) if mean > 1e-30 else 0.0


def dampings_of(one: Examined) -> tuple[float, float]:
    """A hundredth and a hundred times the eigenvalues that make up most of E."""
    middle = _middle_of(one) or 1.0
    return middle / 100, middle * 100


def dampings_of_all(several: Sequence[Examined]) -> list[float]:
    """One below the eigenvalues of most parts, and for every part one that shows the most of it.

    That is up to ten times its eigenvalues: below them x is mostly what has no curvature, and far
    above them x is V / d. A hundredth of what is in the middle shows what else is added. None is
    lost beside the largest eigenvalue, for whom solves by the sum of both.
    """
    middles = sorted(filter(None, map(_middle_of, several))) or [1.0]
    least = max(float(one.known.Lambda.amax()) * one.known.roundoff for one in several) * MISTAKE
    found = [max(middles[len(middles) // 2] / 100, least)]
    for middle in middles:
        if 10 * middle >= least and middle > 1.5 * max(found[1:], default=0.0):
            found.append(10 * middle)
    return found


@as_own_law("solve", Lane.SOLVE)
def _solves_by_products(one: Examined) -> Iterator[Weighed]:
    """(M + d I) x = v for x = solve(v), twice, <v, x> > 0"""
    for name, M, _ in one.operators:
        if not M.solves:
            continue
        for damping in dampings_of(one):
            V = one.random(11)
            # Both, and not their bits: a solver's last ones go by where in memory V happens to be.
            for x in [M.solve(V.clone(), damping=damping) for _ in range(2)]:
                if float((V.double() * x.double()).sum()) <= 0:
                    raise LawBroken(f"{name}, <v, solve(v)> > 0: it is not positive")
                if name == "K" and isinstance(one.damping, Factored):
                    yield from _factored(one, x.double(), V.double(), damping)
                else:
                    yield _residual(one, name, M, x, V, damping)


def _residual(one: Examined, name: str, M: Own, x: Tensor, V: Tensor, damping: float) -> Weighed:
    """A backward error by the subject's own products."""
    image = M.matvec(x.to(one.known.algebra)).double()
    residual = image + damping * x.double() - V.double()
    d_out, d_in = one.known.part.shape
    size = (_largest(one, name) + damping) * norm(x)
    rounding = 3 * one.known.roundoff * (d_out**0.5 + d_in**0.5) * size
    return weigh(f"({name} + {damping:g} I) x = V", norm(residual), rounding, norm(V))


def _largest(one: Examined, name: str) -> float:
    """The largest eigenvalue of E or K, by what is right or by what is answered."""
    if name == "K":
        return max(one.known.B.largest * one.known.A.largest, one.stretch_of_K)
    read = float(one.reading.values.abs().amax()) + float(one.reading.beside.norm())
    return max(float(one.known.Lambda.amax()), read)


def _factored(one: Examined, x: Tensor, V: Tensor, damping: float) -> Iterator[Weighed]:
    """(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V; nothing without a pi."""
    B, A = one.known.B, one.known.A
    sizes = (norm(B.factor), norm(A.factor))
    factors, bounds = (B.factor, A.factor), (float(B.factor.trace()), float(A.factor.trace()))
    parts = parts_by_traces(factors, bounds, one.known.roundoff * one.known.lengths, damping)
    if parts is None:
        return
    left, right = (f + p * torch.eye(len(f)).double() for f, p in zip(factors, parts, strict=True))
    terms, moved = [], 0.0
    for spectrum, part, size in zip((B, A), parts, sizes, strict=True):
        terms.append(spectrum.largest + part)
        moved += spectrum.off / max(size, 1e-300)
    d_out, d_in = one.known.part.shape
    roundings = one.known.roundoff * (d_out**0.5 + d_in**0.5) + moved
    rounding = roundings * terms[0] * terms[1] * (norm(x) + norm(V) / damping)
    residual = left @ x @ right - V
    law = "(B + sqrt(d) / pi I) x (A + sqrt(d) pi I) = V"
    yield weigh(law, norm(residual), rounding, norm(V))


@as_own_law("precondition", Lane.PRECONDITION)
def _preconditions(one: Examined) -> Iterator[Weighed]:
    """(M + d I) x = v for x = precondition(v)

    M is E, or K, as the subject shows it; of one that shows neither, it is the definition's.
    """
    for solved in one.inverted:
        if one.operators:
            name, M, _ = one.operators[0]
            if name == "K" and isinstance(one.damping, Factored):
                yield from _factored(one, solved.x, solved.V, solved.damping)
            else:
                yield _residual(one, name, M, solved.x, solved.V, solved.damping)
        elif isinstance(one.damping, Factored):
            yield from _factored(one, solved.x, solved.V, solved.damping)
        else:
            yield from _by_definition(one, solved.x, solved.V, solved.damping)


def _by_definition(one: Examined, x: Tensor, V: Tensor, damping: float) -> Iterator[Weighed]:
    """(M + d I) x = V by the M of the definition."""
    off, free = off_of_inverted(one)
    if free + MISTAKE * off > GATE_WIDTH * one.known.size and isinstance(one.damping, Tikhonov):
        return
    Lambda, (B, A) = inverted_eigenvalues(one), (one.known.B, one.known.A)
    rotated, seen = B.Q.T @ x @ A.Q, B.Q.T @ V @ A.Q
    residual = (Lambda + damping) * rotated - seen
    law = f"(M + {damping:g} I) P V = V"
    size = norm(Lambda / (Lambda + damping) * seen)  # M x: all that an error of M can show in
    rounding = rounding_of_an_inverse(one, x, damping)
    yield weigh(law, norm(residual), rounding, size, free * min(norm(x), 1 / damping))


def inverted_eigenvalues(one: Examined) -> Tensor:
    """Of the M of the definition, E or K, in the kit's bases of B and A."""
    if isinstance(one.damping, Tikhonov):
        return one.known.Lambda
    return torch.outer(one.known.B.values, one.known.A.values).clamp(min=0)


def off_of_inverted(one: Examined) -> tuple[float, float]:
    """How far rounding moves that M, and how far two right ones may be apart, as norms."""
    known = one.known
    if isinstance(one.damping, Tikhonov):
        return off_of_products(known), free_of_products(known)
    B, A = known.B, known.A
    return B.off * norm(A.factor) + norm(B.factor) * A.off, 0.0


def rounding_of_an_inverse(one: Examined, x: Tensor, damping: float) -> float:
    """How far (M + d I) x may be from V.

    A right x is (M' + d I)^-1 V, with M' off by X that knows nothing of V: the mean of |X x|^2
    over V is |X (M' + d I)^-1|^2, and that is at most |X|^2 / d^2. Nor is it above |x| times the
    largest singular value of X.
    """
    known = one.known
    B, A, (off, _) = known.B, known.A, off_of_inverted(one)
    largest = off
    if not isinstance(one.damping, Tikhonov):
        largest = B.off * A.largest + B.largest * A.off
    d_out, d_in = known.part.shape
    top = float(inverted_eigenvalues(one).amax()) + damping
    roundings = 3 * known.roundoff * (d_out**0.5 + d_in**0.5) * top
    return min(off / damping, largest * norm(x)) + roundings * norm(x)


SOLUTION_LAWS = (_solves_by_products, _preconditions)
