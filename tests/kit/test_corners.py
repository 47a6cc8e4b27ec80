"""The mixtures reach the corners of the algebra, which designed problems keep away from."""

from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.truth import eigengaps, oracle
from ekfac_ref.conformance.truth.observation import Observation, observe
from ekfac_ref.model.forward import call
from ekfac_ref.question.likelihoods import Bernoulli, Categorical
from ekfac_ref.question.problem import Problem

SETS, PROBLEMS = 4, 48
# Shares of the problems that are at the corner, or some layer of them.
AT_LEAST = {
    "a repeated eigenvalue above zero": 0.05,
    "a gap below 1e-6": 0.05,
    "a singular factor": 0.5,
    "fewer samples than inputs": 0.3,
    "a sample without gradient": 0.05,
    "no gradient at all": 0.05,
    "whitened inputs": 0.04,
    "a decided output": 0.05,
    "one sample": 0.05,
    "a stride that is not the dilation": 0.05,
    "a column at several positions": 0.3,
    "one EKFAC matrix only": 0.5,
}


def gaps(factor: Tensor) -> Tensor:
    """Between eigenvalues above zero, relative to the largest."""
    w = torch.linalg.eigvalsh(factor)
    return (w[w > 1e-10 * w[-1]] / w[-1]).diff()


def corners_of(problem: Problem) -> Iterator[str]:
    if any(is_decided(problem, call(problem.model, x).detach()) for x, _ in problem.batches):
        yield "a decided output"
    if sum(len(y) for _, y in problem.batches) == 1:
        yield "one sample"
    convolutions = [m for m in problem.model.modules() if hasattr(m, "dilation")]
    if any(m.stride != m.dilation for m in convolutions):
        yield "a stride that is not the dilation"


def is_decided(problem: Problem, f: Tensor) -> bool:
    """Whether some probability is 0 or 1 to three digits."""
    if isinstance(problem.likelihood, Categorical):
        return bool((torch.softmax(f, problem.likelihood.class_axis) > 0.999).any())
    return isinstance(problem.likelihood, Bernoulli) and bool((f.abs() > 7).any())


def is_white(a: Tensor, A: Tensor) -> bool:
    """Whether A's eigenvalues above zero are several and all one, other than by unit vectors."""
    return (
        bool((a != 0).sum(1).max() > 1)
        and torch.linalg.matrix_rank(A, hermitian=True).item() > 1
        and bool(gaps(A).sum() < 1e-5)
    )


def corners(seen: Observation) -> Iterator[str]:
    B, A = oracle.factors(seen)
    if is_white(torch.cat(seen.a), A):
        yield "whitened inputs"
    for factor in (A, B):
        w = torch.linalg.eigvalsh(factor)
        if w[-1] > 0:
            if (gaps(factor) < 1e-12).any():
                yield "a repeated eigenvalue above zero"
            if (gaps(factor) < 1e-6).any():
                yield "a gap below 1e-6"
            if w[0] < 1e-12 * w[-1]:
                yield "a singular factor"
    if len(seen.G) < len(A):
        yield "fewer samples than inputs"
    silent = [not G.any() for G in seen.G]
    if all(silent):
        yield "no gradient at all"
    if any(silent) and not all(silent):
        yield "a sample without gradient"
    if any((g.any(2).sum(1) > 1).any() for g in seen.g):
        yield "a column at several positions"
    if eigengaps.gap(seen) >= eigengaps.GATE:
        yield "one EKFAC matrix only"


def test_every_corner_is_reached() -> None:
    reached: Counter[str] = Counter()
    for seed in range(SETS):
        for problem in mixtures(Abilities(), PROBLEMS, seed):
            reached.update(corners_of(problem))
            layers = [
                seen for groups in observe(problem, rounding=False).values() for seen in groups
            ]
            reached.update({corner for seen in layers for corner in corners(seen)})
    shares = {corner: reached[corner] / (SETS * PROBLEMS) for corner in AT_LEAST}
    assert {c: share for c, share in shares.items() if share < AT_LEAST[c]} == {}
