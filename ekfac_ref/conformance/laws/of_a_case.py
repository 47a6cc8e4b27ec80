"""Laws of one block that look at more than its matrix, or only where a precondition holds."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Factored
from ekfac_ref.conformance.laws.damped import solves, solves_factored
from ekfac_ref.conformance.laws.law import (
    ALGEBRA,
    DEFINITION,
    GEORGE,
    MARTENS,
    Lane,
    Law,
    each,
    law_of_a_block,
    law_of_a_trial,
    named,
)
from ekfac_ref.conformance.laws.whole_layers import (
    and_of_layers,
    multiplies_layer,
    solving_layers,
)
from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.subjects.trial import Trial
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


@law_of_a_block("linear", DEFINITION, Lane.OPAQUE)
def _linear(M: Answered) -> float:
    """matvec(V) = sum_oi V_oi matvec(e_o e_i^T)"""
    V = M.random(0)
    residual = M.own.matvec(V.clone()).double() - M.product(V)
    terms = fisher_scale(M.seen) if M.way == "ekfac" else block_scale(M.seen)
    scale = own_scale(M.matrix, terms) * float(V.double().norm())
    return bounded("linear", residual, scale, M.seen)


linear = and_of_layers(_linear, multiplies_layer)


@law_of_a_trial("own answers", DEFINITION, Lane.OPAQUE, measures=False)
def own_answers(trial: Trial) -> Iterator[float]:
    """matvec(V) and solve(V) leave V alone, and the next answer leaves this one alone"""
    operators = [one for case in trial.cases for one in case.operators]
    solving = [one for one in operators if one.own.solves]
    return each(
        [
            *(_own(M, "matvec", M.own.matvec) for M in operators),
            *(_own(M, "solve", partial(M.own.solve, damping=1.0)) for M in solving),
        ]
    )


def _own(M: Answered, name: str, method: Callable[[Tensor], Tensor]) -> Iterator[float]:
    V = M.random(2)
    with named(M.way):
        given = V.clone()
        answer = method(given)
        if not torch.equal(given, V):
            raise LawBroken(f"{name} changed the V that it was given")
        kept = answer.clone()
        method(-V)
        if not torch.equal(answer, kept):
            raise LawBroken(f"{name}: the next answer was written over the one before")
    yield 0.0


@law_of_a_block("pythagoras", GEORGE, Lane.EKFAC)
def pythagoras(M: Answered) -> float:
    """|F - K|^2 = |F - E|^2 + |E - K|^2 for KFAC's K, hence |F - E| <= |F - K|"""
    B, A = oracle.factors(M.seen)
    F, K, E = oracle.fisher(M.seen), torch.kron(B, A), M.matrix
    residual = (F - K).norm() ** 2 - (F - E).norm() ** 2 - (E - K).norm() ** 2
    scale = (block_scale(M.seen) + fisher_scale(M.seen)) ** 2
    return bounded("Pythagoras", residual, scale, M.seen)


@law_of_a_block("kernel", ALGEBRA, Lane.EKFAC)
def kernel(M: Answered) -> float:
    """E v = 0 implies F v = 0"""
    E, F, scale = M.matrix, oracle.fisher(M.seen), fisher_scale(M.seen)
    w, V = eigh((E + E.T) / 2)
    n = length(M.seen) + len(w)
    null = V[:, w <= n * torch.finfo(M.seen.dtype).eps * M.seen.blur * own_scale(E, scale)]
    # F >= 0 and tr(N^T E N) = tr(N^T F N) on a basis; so both vanish together, to rounding.
    return bounded("ker E in ker F", (null.T @ F @ null).trace(), scale, M.seen, n * len(w))


@law_of_a_block("exactness", MARTENS, Lane.EKFAC)
def exactness(M: Answered) -> float | None:
    """where B (x) A = F (a batch of one, say), E = F

    E is as close to F as B (x) A is, so that "where" needs no tolerance of the law's.
    """
    B, A = oracle.factors(M.seen)
    F, scale = oracle.fisher(M.seen), fisher_scale(M.seen)
    rest = (torch.kron(B, A) - F).norm()
    if rest > _EXACT * scale:
        return None
    excess = ((M.matrix - F).norm() - rest).clamp(min=0)
    return bounded("E = F where B (x) A = F", excess, scale, M.seen)


@law_of_a_block("comparison", GEORGE, Lane.EKFAC)
def comparison(M: Answered) -> float | None:
    """E = Q diag(diag(Q^T F Q)) Q^T, where the eigengaps of A and B leave one Q"""
    eigengap = gap(M.seen)
    if eigengap < gate(M.seen.dtype):
        return None
    residual = M.matrix - oracle.ekfac_matrix(M.seen)
    return bounded("E = E of the oracle", residual, ekfac_scale(M.seen, eigengap), M.seen)


@law_of_a_block("orthonormal basis", GEORGE, Lane.BASIS)
def basis_is_orthonormal(M: Answered) -> float:
    """Q_A^T Q_A = I and Q_B^T Q_B = I"""
    residual = [Q.T @ Q - torch.eye(Q.shape[1]).double() for Q in M.own.basis()[:2]]
    return bounded("Q^T Q = I", torch.cat([r.reshape(-1) for r in residual]), 1.0, M.seen)


@law_of_a_block("eigenbasis", GEORGE, Lane.BASIS)
def basis_diagonalizes_the_factors(M: Answered) -> float:
    """Q_A^T A Q_A and Q_B^T B Q_B are diagonal, and nothing of A or B is outside a thin basis"""
    ratios = []
    bases = M.own.basis()[:2]
    pairs = zip(bases, oracle.factors(M.seen), factor_scales(M.seen), strict=True)
    for Q, factor, scale in pairs:
        kept = Q @ torch.diag((Q.T @ factor @ Q).diagonal()) @ Q.T
        ratios.append(bounded("Q^T A Q diagonal", factor - kept, scale, M.seen))
    return max(ratios)


@law_of_a_block("eigenvalues", GEORGE, Lane.BASIS)
def eigenvalues_are_the_diagonal(M: Answered) -> float:
    """Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2 in the subject's own basis"""
    Q_B, Q_A, Lambda = M.own.basis()
    residual = Lambda - oracle.eigenvalues(M.seen, Q_B, Q_A)
    return bounded("Lambda = diag(Q^T F Q)", residual, fisher_scale(M.seen), M.seen)


def _solve(damping: float) -> Law:
    @law_of_a_block(
        f"solve {damping:g}",
        "docs/reading.md",
        Lane.SOLVE,
        statement=f"(M + {damping:g} I) x = v for x = solve(v), the same twice, <v, x> > 0",
    )
    def solve(M: Answered) -> float | None:
        V = M.random(1)
        # Each of them, and not their bits: a solver's last ones go by where V lies in memory.
        answers = [M.own.solve(V.clone(), damping=damping) for _ in range(3)]
        if isinstance(M.damping, Factored):
            ratios = [solves_factored(M.seen, x, V, damping) for x in answers]
        else:
            size = own_scale(M.matrix, block_scale(M.seen))
            law = "(M + damping I) x = V"
            ratios = [solves(law, M.own.matvec, size, x, V, damping, M.seen) for x in answers]
        again = answers[-1]
        if float((V.double() * again.double()).sum()) <= 0:
            raise LawBroken("<v, solve(v)> > 0: it is not positive")
        return max((ratio for ratio in ratios if ratio is not None), default=None)

    return and_of_layers(solve, solving_layers(damping))


# At a damping of 1, one that is squared, or its root, looks right.
solve_small, solve_1 = _solve(1e-6), _solve(1.0)


@law_of_a_block("kfac", MARTENS, Lane.KFAC)
def kfac_block(M: Answered) -> float:
    """K = B (x) A by the factors' definitions

    The 1/T of shared positions may sit in either factor.
    """
    residual = M.matrix - torch.kron(*oracle.factors(M.seen))
    return bounded("K = B (x) A", residual, block_scale(M.seen), M.seen)


@law_of_a_block("factors", MARTENS, Lane.FACTORS)
def kfac_factors(M: Answered) -> float | None:
    """A = s A* and B = B* / s by the definitions A* and B*, with one s > 0

    s is the multiple of A* that is nearest to A. Where A* itself is rounding there is none.
    """
    (B, A), (right_B, right_A) = M.factors(), oracle.factors(M.seen)
    b, a = factor_scales(M.seen)
    size = float(right_A.norm())
    if size <= length(M.seen) * torch.finfo(M.seen.dtype).eps * a:
        return None
    s = float((A * right_A).sum()) / size**2
    if s <= 0:
        raise LawBroken(f"A = s A*: s is {s:.3g}, and it is positive where A and B are moments")
    # s is off by roundings of a / |A*|, and with it B* / s.
    return max(
        bounded("A = s A*", A / s - right_A, a, M.seen),
        bounded("B = B* / s", s * B - right_B, b * (1 + a / size), M.seen),
    )


@law_of_a_block("exact block", DEFINITION, Lane.FISHER)
def exact_block(M: Answered) -> float:
    """F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T"""
    residual = M.matrix - oracle.fisher(M.seen)
    return bounded("M = F", residual, block_scale(M.seen), M.seen)
