"""Laws of one block that look at more than the matrix of E, or only where a precondition holds."""

import torch

from ekfac_ref.conformance.laws.law import (
    ALGEBRA,
    DEFINITION,
    GEORGE,
    MARTENS,
    Lane,
    Law,
    law_of_a_case,
)
from ekfac_ref.conformance.subjects.trial import Case
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.eigengaps import ekfac_scale, gap, gate
from ekfac_ref.conformance.truth.tolerance import (
    LawBroken,
    block_scale,
    bounded,
    factor_scales,
    fisher_scale,
    length,
    own_scale,
)
from ekfac_ref.matrix.eigen import eigh

# B (x) A and F this close, relative to the running-error scale, are one in float64.
_EXACT = 1e-13


@law_of_a_case("linear", DEFINITION)
def linear(case: Case) -> float:
    """matvec(V) = sum_oi V_oi matvec(e_o e_i^T)"""
    V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(0))
    got = case.own.matvec(V.to(case.seen.algebra, copy=True)).double()
    residual = got - case.E.matvec(V.to(case.seen.algebra).double())
    scale = own_scale(case.E.matrix, fisher_scale(case.seen)) * float(V.norm())
    return bounded("linear", residual, scale, case.seen)


@law_of_a_case("own answers", DEFINITION, measures=False)
def own_answers(case: Case) -> float:
    """matvec(V) and solve(V) leave V alone, and the next answer leaves this one alone"""
    V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(2))
    V = V.to(case.seen.algebra)
    methods = [("matvec", case.own.matvec)]
    if case.own.solves:
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


@law_of_a_case("pythagoras", GEORGE)
def pythagoras(case: Case) -> float:
    """|F - K|^2 = |F - E|^2 + |E - K|^2 for KFAC's K, hence |F - E| <= |F - K|"""
    B, A = oracle.factors(case.seen)
    F, K, E = oracle.fisher(case.seen), torch.kron(B, A), case.E.matrix
    residual = (F - K).norm() ** 2 - (F - E).norm() ** 2 - (E - K).norm() ** 2
    scale = (block_scale(case.seen) + fisher_scale(case.seen)) ** 2
    return bounded("Pythagoras", residual, scale, case.seen)


@law_of_a_case("kernel", ALGEBRA)
def kernel(case: Case) -> float:
    """E v = 0 implies F v = 0"""
    E, F, scale = case.E.matrix, oracle.fisher(case.seen), fisher_scale(case.seen)
    w, V = eigh((E + E.T) / 2)
    n = length(case.seen) + len(w)
    null = V[:, w <= n * torch.finfo(case.seen.dtype).eps * own_scale(E, scale)]
    # F >= 0 and tr(N^T E N) = tr(N^T F N) on a basis; so both vanish together, to rounding.
    return bounded("ker E in ker F", (null.T @ F @ null).trace(), scale, case.seen, n * len(w))


@law_of_a_case("exactness", MARTENS)
def exactness(case: Case) -> float | None:
    """where B (x) A = F (a batch of one, say), E = F

    E is as close to F as B (x) A is, so that "where" needs no tolerance of the law's.
    """
    B, A = oracle.factors(case.seen)
    F, scale = oracle.fisher(case.seen), fisher_scale(case.seen)
    rest = (torch.kron(B, A) - F).norm()
    if rest > _EXACT * scale:
        return None
    excess = ((case.E.matrix - F).norm() - rest).clamp(min=0)
    return bounded("E = F where B (x) A = F", excess, scale, case.seen)


@law_of_a_case("comparison", GEORGE)
def comparison(case: Case) -> float | None:
    """E = Q diag(diag(Q^T F Q)) Q^T, where the eigengaps of A and B leave one Q"""
    eigengap = gap(case.seen)
    if eigengap < gate(case.seen.dtype):
        return None
    residual = case.E.matrix - oracle.ekfac_matrix(case.seen)
    return bounded("E = E of the oracle", residual, ekfac_scale(case.seen, eigengap), case.seen)


@law_of_a_case("orthonormal basis", GEORGE, Lane.BASIS)
def basis_is_orthonormal(case: Case) -> float:
    """Q_A^T Q_A = I and Q_B^T Q_B = I"""
    residual = [Q.T @ Q - torch.eye(Q.shape[1]).double() for Q in case.own.basis()[:2]]
    return bounded("Q^T Q = I", torch.cat([r.reshape(-1) for r in residual]), 1.0, case.seen)


@law_of_a_case("eigenbasis", GEORGE, Lane.BASIS)
def basis_diagonalizes_the_factors(case: Case) -> float:
    """Q_A^T A Q_A and Q_B^T B Q_B are diagonal, and nothing of A or B is outside a thin basis"""
    ratios = []
    bases = case.own.basis()[:2]
    pairs = zip(bases, oracle.factors(case.seen), factor_scales(case.seen), strict=True)
    for Q, factor, scale in pairs:
        kept = Q @ torch.diag((Q.T @ factor @ Q).diagonal()) @ Q.T
        ratios.append(bounded("Q^T A Q diagonal", factor - kept, scale, case.seen))
    return max(ratios)


@law_of_a_case("eigenvalues", GEORGE, Lane.BASIS)
def eigenvalues_are_the_diagonal(case: Case) -> float:
    """Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2 in the subject's own basis"""
    Q_B, Q_A, Lambda = case.own.basis()
    residual = Lambda - oracle.eigenvalues(case.seen, Q_B, Q_A)
    return bounded("Lambda = diag(Q^T F Q)", residual, fisher_scale(case.seen), case.seen)


def _solve(damping: float) -> Law:
    @law_of_a_case(
        f"solve {damping:g}",
        "docs/reading.md",
        Lane.SOLVE,
        statement=f"(E + {damping:g} I) x = v for x = solve(v), the same twice, <v, x> > 0",
    )
    def solve(case: Case) -> float:
        V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(1))
        V = V.to(case.seen.algebra)
        before = case.own.solve(V.clone(), damping=damping)
        x = case.own.solve(V.clone(), damping=damping)
        residual = case.own.matvec(x).double() + damping * x.double() - V.double()
        size = own_scale(case.E.matrix, block_scale(case.seen))
        scale = (size + damping) * float(x.double().norm())
        ratio = bounded("(M + damping I) x = V", residual, scale, case.seen)
        again = case.own.solve(V.clone(), damping=damping)
        if not torch.equal(before, again):
            raise LawBroken("solve: the same question twice has two answers")
        if float((V.double() * again.double()).sum()) <= 0:
            raise LawBroken("<v, solve(v)> > 0: it is not positive")
        return ratio

    return solve


# At a damping of 1, one that is squared, or its root, looks right.
solve_small, solve_1 = _solve(1e-6), _solve(1.0)


@law_of_a_case("kfac", MARTENS, Lane.KFAC)
def kfac_block(case: Case) -> float | None:
    """K = B (x) A by the factors' definitions

    The 1/T of shared positions may sit in either factor.
    """
    if case.K is None:
        return None
    residual = case.K.matrix - torch.kron(*oracle.factors(case.seen))
    return bounded("K = B (x) A", residual, block_scale(case.seen), case.seen)


@law_of_a_case("exact block", DEFINITION, Lane.FISHER)
def exact_block(case: Case) -> float | None:
    """F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T"""
    if case.F is None:
        return None
    residual = case.F.matrix - oracle.fisher(case.seen)
    return bounded("M = F", residual, block_scale(case.seen), case.seen)
