"""Mistakes in the KFAC and the exact blocks of an implementation whose EKFAC is right."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, Rounded, answer, rounded
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.matrix.operators import Dense
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand


def _blocks(matrix: Callable[[Observation], Tensor]) -> Ask:
    """A matrix [P, P] of what every layer (group) saw."""

    def block(seen: Observation) -> Rounded:
        return rounded(Dense(matrix(seen), seen.shape), seen.algebra)

    return lambda problem: answer(problem, observed_exactly(problem), Definition(), block)


def _seeing(gradients: Callable[[Observation], list[Tensor]]) -> Ask:
    """The exact blocks of other G_n, [C_n, d_out, d_in] of every sample n."""

    def observe(problem: Problem) -> Observations:
        return {
            name: [replace(seen, G=gradients(seen)) for seen in groups]
            for name, groups in observed_exactly(problem).items()
        }

    return replace(CORRECT, observe=observe).exact_fisher


def _kfac(change: Callable[[Observation, Tensor, Tensor], Tensor]) -> Ask:
    """A matrix made of (what a layer saw, its right B, its right A)."""
    return _blocks(lambda seen: change(seen, *oracle.factors(seen)))


def _summed_inputs(seen: Observation, B: Tensor, A: Tensor) -> Tensor:
    """A over the samples instead of the rows."""
    rows = sum(int(counted.sum()) for counted in seen.counted)
    return torch.kron(B, A * (rows / len(seen.a) if isinstance(seen.sharing, Expand) else 1.0))


def _the_mean(seen: Observation) -> list[Tensor]:
    """mean G_c in the place of every G_nc, of the columns that all samples have."""
    columns = min(len(G) for G in seen.G)
    return [torch.stack([G[:columns] for G in seen.G]).mean(0)] * len(seen.G)


def _over_columns(seen: Observation) -> list[Tensor]:
    columns = sum(map(len, seen.G)) / len(seen.G)
    return [G / columns**0.5 for G in seen.G]


def _of_positions(seen: Observation) -> list[Tensor]:
    pairs = zip(seen.g, seen.a, strict=True)
    return [torch.einsum("cto,ti->ctoi", g, a).flatten(0, 1) for g, a in pairs]


_of_kfac = partial(Mutant, ekfac=CORRECT.ekfac, laws=("kfac",))
_of_blocks = partial(Mutant, ekfac=CORRECT.ekfac, laws=("exact block",))

BLOCKS = (
    _of_kfac(
        name="kfac-in-the-other-order",
        mistake="has A (x) B for KFAC (right: B (x) A, where vec stacks rows)",
        story="B (x) A or A (x) B hangs on the order of vec: curvlinops#182. Its EKFAC is right.",
        kfac=_kfac(lambda seen, B, A: torch.kron(A, B)),
        only="a subject that offers KFAC",
    ),
    _of_kfac(
        name="kfac-over-n-twice",
        mistake="has N too many in the denominator of KFAC's B (right: one)",
        story="B of a mean loss's gradients: natural-gradients#2. EKFAC takes nothing but "
        "eigenvectors from B and is right.",
        kfac=_kfac(lambda seen, B, A: torch.kron(B / len(seen.G), A)),
        laws=("kfac", "doubled"),
        only="a subject that offers KFAC, N > 1",
    ),
    _of_kfac(
        name="kfac-inputs-over-samples",
        mistake="divides KFAC's A by the number of samples (right: of rows, one for each position)",
        story="A Gram matrix of tokens over the number of documents: bergson@f173b6a; sequences "
        "counted on one path and tokens on another: GPTQModel#1584. Its EKFAC is right.",
        kfac=_kfac(_summed_inputs),
        only="a subject that offers KFAC, Expand, T > 1",
    ),
    _of_kfac(
        name="kfac-expand-for-reduce",
        mistake="makes KFAC of positions (right: Reduce was asked for, of samples)",
        story="An option that reaches EKFAC and not KFAC; one that reached nothing was "
        "backpack@c8ba1c6d.",
        kfac=_blocks(lambda seen: torch.kron(*oracle.factors(replace(seen, sharing=Expand())))),
        only="a subject that offers KFAC, Reduce, T > 1",
    ),
    _of_blocks(
        name="block-of-the-mean-gradient",
        mistake="has the outer product of the mean gradient for the exact block (right: the mean "
        "of the outer products)",
        story="The diagonals of pytorch-ewc#1 and GradientEpisodicMemory#7, in full. Its EKFAC is "
        "right.",
        exact_fisher=_seeing(_the_mean),
        only="a subject that offers exact blocks, N > 1",
    ),
    _of_blocks(
        name="block-by-columns",
        mistake="flattens gradients by columns in the exact block (right: by rows)",
        story="vec of the papers and reshape of the code: curvlinops#182. Its EKFAC is right, and "
        "far from this block.",
        exact_fisher=_seeing(lambda seen: [G.mT.reshape(G.shape) for G in seen.G]),
        only="a subject that offers exact blocks, d_out > 1, d_in > 1",
    ),
    _of_blocks(
        name="block-averaged-over-columns",
        mistake="averages the exact block over columns (right: sums)",
        story="A 1/C in the sampler and none in EKFAC: curvlinops#111.",
        exact_fisher=_seeing(_over_columns),
        only="a subject that offers exact blocks, C > 1",
    ),
    _of_blocks(
        name="block-of-single-positions",
        mistake="sums outer products over positions in the exact block (right: gradients)",
        story="Batch gradients with a token axis whose sum was left out on some paths: "
        "asdl@f01a926. Its EKFAC is right.",
        exact_fisher=_seeing(_of_positions),
        only="a subject that offers exact blocks, T > 1",
    ),
)
