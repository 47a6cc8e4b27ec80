"""Laws of one block that look at more than its matrix, or only where a precondition holds."""

from collections.abc import Callable

import torch

from ekfac_ref.conformance.laws import of_a_matrix as laws
from ekfac_ref.conformance.laws import of_two_answers as equivariance
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.trial import Case, Solved
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.tolerance import (
    LawBroken,
    check,
    factor_scales,
    fisher_scale,
    length,
)
from ekfac_ref.matrix.operators import Dense


def linear(case: Case) -> float:
    """matvec(V) = sum_oi V_oi matvec(e_o e_i^T)."""
    V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(0))
    got = case.own.matvec(V.to(case.seen.algebra, copy=True)).double()
    residual = got - case.E.matvec(V.to(case.seen.algebra).double())
    scale = fisher_scale(case.seen) * float(V.norm())
    return check("linear", residual, scale, length(case.seen), case.seen.dtype)


def keeps_to_itself(case: Case) -> float:
    """matvec and solve leave V as it was, and their answers are not overwritten by later ones."""
    V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(2))
    V = V.to(case.seen.algebra)
    methods = [("matvec", case.own.matvec)]
    if hasattr(case.own, "solve"):
        methods.append(("solve", lambda V: case.own.solve(V, damping=1.0)))
    for name, method in methods:
        given = V.clone()
        answer = method(given)
        if not torch.equal(given, V):
            raise LawBroken(f"{name} changed the V that it was given")
        kept = answer.clone()
        method(-V)
        if not torch.equal(answer, kept):
            raise LawBroken(f"{name}: the next answer was written over the one before")
    return 0.0


def exact_where_kfac_is(case: Case) -> float | None:
    """B (x) A = F implies E = F; E is as close to F as B (x) A is, so that needs no tolerance."""
    B, A = oracle.factors(case.seen)
    F, scale = oracle.fisher(case.seen), fisher_scale(case.seen)
    rest = (torch.kron(B, A) - F).norm()
    if rest > 1e-13 * scale:
        return None
    excess = ((case.E.matrix - F).norm() - rest).clamp(min=0)
    return check("E = F where B (x) A = F", excess, scale, length(case.seen), case.seen.dtype)


def kernel(case: Case) -> float:
    """v^T E v = 0 implies v^T F v = 0, for v in the null space of E."""
    E, F = case.E.matrix, oracle.fisher(case.seen)
    scale = fisher_scale(case.seen)
    w, V = torch.linalg.eigh((E + E.T) / 2)
    n = length(case.seen) + len(w)
    null = V[:, w <= n * torch.finfo(case.seen.dtype).eps * scale]
    # F >= 0 and tr(N^T E N) = tr(N^T F N) on a basis; so both vanish together, to rounding.
    return check("ker E in ker F", (null.T @ F @ null).trace(), scale, n * len(w), case.seen.dtype)


def pythagoras(case: Case) -> float:
    """||F - K||^2 = ||F - E||^2 + ||E - K||^2 with K = B (x) A."""
    B, A = oracle.factors(case.seen)
    K = Dense(torch.kron(B, A), case.E.shape)
    return laws.pythagoras(case.E, K, case.seen)


def comparison(case: Case) -> float | None:
    """E is the oracle's EKFAC matrix, where wide eigengaps leave only one."""
    gap = equivariance.gap(case.seen)
    if gap < equivariance.gate(case.seen.dtype):
        return None
    residual = case.E.matrix - oracle.ekfac(case.seen)
    scale = equivariance.ekfac_scale(case.seen, gap)
    return check("E = E of the oracle", residual, scale, length(case.seen), case.seen.dtype)


def solves(damping: float) -> Callable[[Case], float]:
    """(E + damping I) solve(v) = v, the same answer twice, <v, solve(v)> > 0."""

    def law(case: Case) -> float:
        V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(1))
        V = V.to(case.seen.algebra)
        before = case.own.solve(V.clone(), damping=damping)
        ratio = laws.solves(case.own, V, damping, case.seen)
        again = case.own.solve(V.clone(), damping=damping)
        if not torch.equal(before, again):
            raise LawBroken("solve: the same question twice has two answers")
        if float((V.double() * again.double()).sum()) <= 0:
            raise LawBroken("<v, solve(v)> > 0: it is not positive")
        return ratio

    return law


def preconditions(blocks: list[tuple[Block, Case]], solved: Solved) -> float:
    """(E + damping I) x = V in one layer, E by the subject's own products; the same bits twice.

    A backward error of the layer as a whole: it may have been solved as one system.
    """
    if not torch.equal(solved.x, solved.again):
        raise LawBroken("precondition: the same question twice has two answers")
    residual = solved.damping * solved.x - solved.V
    for block, case in blocks:
        block.of(residual).add_(case.E.matvec(block.of(solved.x)))
    seen = [block.seen for block, _ in blocks]
    scale = (max(map(fisher_scale, seen)) + solved.damping) * float(solved.x.norm())
    law = f"(E + {solved.damping:g} I) precondition(V) = V"
    return check(law, residual, scale, max(map(length, seen)), seen[0].dtype)


def kfac(case: Case) -> float | None:
    """K = B (x) A."""
    return None if case.K is None else laws.factors_by_definition(case.K, case.seen)


def exact_block(case: Case) -> float | None:
    """The exact block is F."""
    return None if case.F is None else laws.is_fisher(case.F, case.seen)


def same_ekfac(one: Case, other: Case) -> float:
    """The same matrix where eigengaps are wide, else the same moments, which no basis changes."""
    difference, gap = other.E.matrix - one.E.matrix, equivariance.gap(one.seen)
    scale, n, dtype = fisher_scale(one.seen), length(one.seen), one.seen.dtype
    if gap >= equivariance.gate(dtype):
        bound = equivariance.ekfac_scale(one.seen, gap)
        return check("E unchanged", difference, bound, n, dtype)
    B, A = oracle.factors(one.seen)
    b, a = factor_scales(one.seen)
    moments = [
        check("moments of E unchanged", (difference * M).sum(), scale * bound, n, dtype)
        for M, bound in (
            (torch.eye(len(difference)).double(), 1.0),
            (torch.kron(B, A), b * a),
        )
    ]
    return max(moments)
