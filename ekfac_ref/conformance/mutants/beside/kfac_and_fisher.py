"""Mistakes in the KFAC and the exact blocks of an implementation whose EKFAC is right."""

from collections.abc import Callable, Iterable
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
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.matrix.operators import Dense
from ekfac_ref.question.sharing import Expand


def _blocks(matrix: Callable[[Observation], Tensor]) -> Ask:
    """A matrix [P, P] of what every layer (group) saw."""

    def block(seen: Observation) -> Rounded:
        return rounded(Dense(matrix(seen), seen.shape), seen.algebra)

    return lambda problem: answer(problem, observed_exactly(problem), Definition(), block)


def _mean_square(vectors: Callable[[Tensor, Tensor, Tensor], Iterable[Tensor]]) -> Ask:
    """(1/N) sum_n of the outer products of vectors made of (G_n, g_n, a_n)."""

    def matrix(seen: Observation) -> Tensor:
        samples = zip(seen.G, seen.g, seen.a, strict=True)
        rows = torch.stack([v.flatten() for sample in samples for v in vectors(*sample)])
        return rows.T @ rows / len(seen.G)

    return _blocks(matrix)


def _kfac(change: Callable[[Observation, Tensor, Tensor], Tensor]) -> Ask:
    """A matrix made of (what a layer saw, its right B, its right A)."""
    return _blocks(lambda seen: change(seen, *oracle.factors(seen)))


def _summed_inputs(seen: Observation, B: Tensor, A: Tensor) -> Tensor:
    """A over the samples instead of the rows."""
    rows = sum(int(counted.sum()) for counted in seen.counted)
    return torch.kron(B, A * (rows / len(seen.a) if isinstance(seen.sharing, Expand) else 1.0))


def _of_the_mean(seen: Observation) -> Tensor:
    """vec(mean G_c) vec(mean G_c)^T, summed over the columns that all samples have."""
    columns = min(len(G) for G in seen.G)
    mean = torch.stack([G[:columns] for G in seen.G]).mean(0).flatten(1)
    return mean.T @ mean


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
        exact_fisher=_blocks(_of_the_mean),
        only="a subject that offers exact blocks, N > 1",
    ),
    _of_blocks(
        name="block-by-columns",
        mistake="flattens gradients by columns in the exact block (right: by rows)",
        story="vec of the papers and reshape of the code: curvlinops#182. Its EKFAC is right, and "
        "far from this block.",
        exact_fisher=_mean_square(lambda G, g, a: G.transpose(1, 2)),
        only="a subject that offers exact blocks, d_out > 1, d_in > 1",
    ),
    _of_blocks(
        name="block-averaged-over-columns",
        mistake="averages the exact block over columns (right: sums)",
        story="A 1/C in the sampler and none in EKFAC: curvlinops#111.",
        exact_fisher=_blocks(
            lambda seen: oracle.fisher(seen) * len(seen.G) / sum(map(len, seen.G))
        ),
        only="a subject that offers exact blocks, C > 1",
    ),
    _of_blocks(
        name="block-of-single-positions",
        mistake="sums outer products over positions in the exact block (right: gradients)",
        story="Batch gradients with a token axis whose sum was left out on some paths: "
        "asdl@f01a926. Its EKFAC is right.",
        exact_fisher=_mean_square(lambda G, g, a: torch.einsum("cto,ti->ctoi", g, a).flatten(0, 1)),
        only="a subject that offers exact blocks, T > 1",
    ),
)
