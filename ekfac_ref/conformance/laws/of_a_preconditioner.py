r"""Laws of P = (M + d I)^-1, of a subject that preconditions and shows no matrix.

M is EKFAC's E, or KFAC's where that is declared (``damping.py``). What is said of P is said of its
products with random vectors, at a damping d of the size of the blocks, a tenth and ten times that;
and of P itself where a layer is small. A right P V is off by roundings of (|M| + d) / d^2 |V|. So
is P symmetric, between 0 and 1/d, and diagonal in the basis of A and B. But a multiple of I is all
that too: ``resolvent`` holds P against itself at another damping, ``inverse`` against M, and the
laws of E are asked of P^-1 - d I.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Factored
from ekfac_ref.conformance.laws.damped import (
    largest_eigenvalue,
    roundings_of_inverse,
    solves_as_declared,
    undone,
)
from ekfac_ref.conformance.laws.law import ALGEBRA, DEFINITION, GEORGE, Lane, law_of_a_trial
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.matrices import entries
from ekfac_ref.conformance.subjects.preconditioned import Preconditioned
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.tolerance import (
    LawBroken,
    bounded,
    factor_scales,
)

_ALIKE = 1e-3  # relative: an answer to the mean gradient is one to nothing else


def named_blocks(trial: Trial) -> Iterator[tuple[str, Block]]:
    """Every block, with its layer's name."""
    for name, blocks in trial.blocks.items():
        for block in blocks:
            yield name, block


Formula = Callable[[Preconditioned, str, Block, float], float]


def _at_every_block(trial: Trial, formula: Formula) -> Iterator[float]:
    """The formula of (answers, layer, block, what roundings of P are relative to)."""
    P, how = trial.inverse, trial.subject.definition.damping
    if P is None:
        return
    for name, block in named_blocks(trial):
        size = roundings_of_inverse(block.seen, how, P.damping)
        if size is not None:
            yield formula(P, name, block, size)


@law_of_a_trial("P linear", DEFINITION, Lane.INVERSE)
def preconditions_linearly(trial: Trial) -> Iterator[float]:
    """P (U + W) = P U + P W, and the same bits twice; so V is used"""
    P = trial.inverse
    if P is None:
        return
    _uses_its_gradients(trial, P)
    again, both = P.solve(P.U, P.damping), {name: P.U[name] + P.W[name] for name in P.U}
    if any(not torch.equal(x, again[name]) for name, x in P.of_U[P.damping].items()):
        raise LawBroken("precondition: the same question twice has two answers")
    of_both = P.solve(both, P.damping)

    def formula(P: Preconditioned, name: str, block: Block, size: float) -> float:
        U, W = block.of(P.U[name]), block.of(P.W[name])
        parts = block.of(P.of_U[P.damping][name]) + block.of(P.of_W[name])
        scale = 2 * size * float(U.norm() + W.norm())
        return bounded("P (U + W) = P U + P W", block.of(of_both[name]) - parts, scale, block.seen)

    yield from _at_every_block(trial, formula)


def _uses_its_gradients(trial: Trial, P: Preconditioned) -> None:
    """Two V with one answer are not looked at; whose gradient it takes instead may be told."""
    for name, x in P.of_U[P.damping].items():
        if not torch.equal(x, P.of_W[name]):
            continue
        what = f"precondition: two different V of layer {name!r} have one and the same answer"
        if _answers_with_the_mean_gradient(trial, P, name, x):
            raise LawBroken(
                f"{what}, P times the mean gradient of the problem: it is right for that gradient "
                "alone, and ignores the one that it is given"
            )
        raise LawBroken(f"{what}: it ignores the gradients that it is given")


def _answers_with_the_mean_gradient(trial: Trial, P: Preconditioned, name: str, x: Tensor) -> bool:
    """Whether (M + d I) x is a multiple of it, by the oracle."""
    how = trial.subject.definition.damping
    for block in trial.blocks[name]:
        given = undone(block.seen, how, block.of(x), P.damping)
        g = block.of(P.gradient[name])
        if given is None or not g.any() or not given.any():
            return False
        given, g = given / given.norm(), g / g.norm()
        if float((given - (given * g).sum() * g).norm()) > _ALIKE:
            return False
    return True


@law_of_a_trial("P symmetric", ALGEBRA, Lane.INVERSE)
def preconditions_symmetrically(trial: Trial) -> Iterator[float]:
    """<W, P U> = <U, P W>, and P = P^T where it is written out"""

    def formula(P: Preconditioned, name: str, block: Block, size: float) -> float:
        U, W = block.of(P.U[name]), block.of(P.W[name])
        one, other = block.of(P.of_U[P.damping][name]), block.of(P.of_W[name])
        scale = 2 * size * float(U.norm() * W.norm())
        difference = (W * one).sum() - (U * other).sum()
        ratio = bounded("<W, P U> = <U, P W>", difference, scale, block.seen)
        M = _written_out(trial, name, block)
        if M is not None:
            scale = size * len(M) ** 0.5
            ratio = max(ratio, bounded("P = P^T", M - M.T, scale, block.seen))
        return ratio

    yield from _at_every_block(trial, formula)


def _written_out(trial: Trial, name: str, block: Block) -> Tensor | None:
    P = trial.inverse
    if P is None or P.matrices is None:
        return None
    blocks = trial.blocks[name]
    of = entries(blocks)[blocks.index(block)]
    return P.matrices[name][of][:, of]


@law_of_a_trial("P bounded", ALGEBRA, Lane.INVERSE)
def preconditions_within_bounds(trial: Trial) -> Iterator[float]:
    """1 / (m + d) <= P <= 1 / d, m the largest eigenvalue of F (of E it is smaller), or of KFAC

    By factored damping, 0 <= P.
    """
    how = trial.subject.definition.damping

    def formula(P: Preconditioned, name: str, block: Block, size: float) -> float:
        U, x = block.of(P.U[name]), block.of(P.of_U[P.damping][name])
        low = (
            0.0
            if isinstance(how, Factored)
            else 1 / (largest_eigenvalue(block.seen, how) + P.damping)
        )
        of_U = (U * x).sum() / (U * U).sum()
        quotients = [of_U.reshape(1)]
        M = _written_out(trial, name, block)
        if M is not None:
            quotients.append(torch.linalg.eigvalsh((M + M.T) / 2))
        beyond = torch.cat(
            [part for q in quotients for part in ((low - q), (q - 1 / P.damping))]
        ).clamp(min=0)
        return bounded("1 / (m + d) <= P <= 1 / d", beyond.amax(), size, block.seen)

    yield from _at_every_block(trial, formula)


@law_of_a_trial("P commutes", ALGEBRA, Lane.INVERSE)
def preconditions_in_the_eigenbasis(trial: Trial) -> Iterator[float]:
    """P (B V) = B (P V) and P (V A) = (P V) A"""
    P = trial.inverse
    if P is None:
        return
    by_B, by_A = ({name: torch.zeros_like(V) for name, V in P.U.items()} for _ in range(2))
    for name, block in named_blocks(trial):
        B, A = oracle.factors(block.seen)
        b, a = factor_scales(block.seen)
        # Over the factors' bounds, so that what a law is asked of is as large as any V.
        block.of(by_B[name]).copy_(B @ block.of(P.U[name]) / b)
        block.of(by_A[name]).copy_(block.of(P.U[name]) @ A / a)
    of_B, of_A = P.solve(by_B, P.damping), P.solve(by_A, P.damping)

    def formula(P: Preconditioned, name: str, block: Block, size: float) -> float:
        B, A = oracle.factors(block.seen)
        b, a = factor_scales(block.seen)
        x, scale = block.of(P.of_U[P.damping][name]), 2 * size * float(block.of(P.U[name]).norm())
        return max(
            bounded("P (B V) = B (P V)", block.of(of_B[name]) - B @ x / b, scale, block.seen),
            bounded("P (V A) = (P V) A", block.of(of_A[name]) - x @ A / a, scale, block.seen),
        )

    yield from _at_every_block(trial, formula)


@law_of_a_trial("P resolvent", ALGEBRA, Lane.INVERSE)
def preconditions_as_a_resolvent(trial: Trial) -> Iterator[float]:
    """P V - P' V = (d' - d) P P' V for two dampings d and d'

    Damping that is doubled, squared or multiplied by the size of E breaks it, whatever E is.
    Factored damping does too, and is not asked.
    """
    P, how = trial.inverse, trial.subject.definition.damping
    if P is None or isinstance(how, Factored):
        return
    small, middle, large = P.dampings
    for one, other in ((small, middle), (middle, large)):
        both = P.solve(P.of_U[other], one)
        for name, block in named_blocks(trial):
            x, y = block.of(P.of_U[one][name]), block.of(P.of_U[other][name])
            residual = x - y - (other - one) * block.of(both[name])
            sizes = [roundings_of_inverse(block.seen, how, d) or 0.0 for d in (one, other)]
            step = other - one
            terms = sizes[0] * (1 + step / other) + sizes[1] * (1 + step / one)
            scale = terms * float(block.of(P.U[name]).norm())
            yield bounded("P V - P' V = (d' - d) P P' V", residual, scale, block.seen)


@law_of_a_trial("P inverse", GEORGE, Lane.INVERSE)
def preconditions_by_the_inverse(trial: Trial) -> Iterator[float]:
    """(M + d I) P V = V, for random V and for the mean gradient; an E behind the eigengap gate

    By factored damping, (B + sqrt(d) / pi I) P V (A + sqrt(d) pi I) = V.
    """
    P, how = trial.inverse, trial.subject.definition.damping
    if P is None:
        return
    questions = [(d, P.U, P.of_U[d]) for d in P.dampings]
    questions.append((P.damping, P.gradient, P.solve(P.gradient, P.damping)))
    for damping, given, answers in questions:
        for name, block in named_blocks(trial):
            x, V = block.of(answers[name]), block.of(given[name])
            ratio = solves_as_declared(block.seen, how, x, V, damping)
            if ratio is not None:
                yield ratio


PRECONDITIONS = (
    preconditions_linearly,
    preconditions_symmetrically,
    preconditions_within_bounds,
    preconditions_in_the_eigenbasis,
    preconditions_as_a_resolvent,
    preconditions_by_the_inverse,
)
