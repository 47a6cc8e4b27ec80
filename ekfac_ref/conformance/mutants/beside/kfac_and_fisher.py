"""Mistakes in the KFAC and the exact blocks of an implementation whose EKFAC is right."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, InDtype, direct_sum, factor_A, factor_B
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.matrix.operators import Dense
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand


def _blocks(matrix: Callable[[Observation], Tensor]) -> Ask:
    """A matrix [P, P] of what every layer (group) saw."""

    def block(seen: Observation) -> InDtype:
        d_out, d_in = seen.G[0].shape[1:]
        return InDtype(Dense(matrix(seen), (d_out, d_in)), seen.algebra)

    def ask(problem: Problem) -> dict[str, Any]:
        return {
            name: direct_sum([block(seen) for seen in groups])
            for name, groups in observed_exactly(problem).items()
        }

    return ask


def _mean_square(vectors: Callable[[Tensor, Tensor, Tensor], Iterator[Tensor]]) -> Ask:
    """(1/N) sum_n of the outer products of vectors made of (G_n, g_n, a_n)."""

    def matrix(seen: Observation) -> Tensor:
        samples = zip(seen.G, seen.g, seen.a, strict=True)
        rows = torch.stack([v.flatten() for sample in samples for v in vectors(*sample)])
        return rows.T @ rows / len(seen.G)

    return _blocks(matrix)


def _in_the_other_order(seen: Observation) -> Tensor:
    return torch.kron(factor_A(seen), factor_B(seen))


def _over_n_twice(seen: Observation) -> Tensor:
    return torch.kron(factor_B(seen) / len(seen.G), factor_A(seen))


def _summed_inputs(seen: Observation) -> Tensor:
    """A over the samples instead of the rows."""
    rows = sum(int(counted.sum()) for counted in seen.counted)
    positions = rows / len(seen.a) if isinstance(seen.sharing, Expand) else 1.0
    return torch.kron(factor_B(seen), factor_A(seen) * positions)


def _expanded(seen: Observation) -> Tensor:
    B, A = oracle.factors(replace(seen, sharing=Expand()))
    return torch.kron(B, A)


def _of_the_mean(seen: Observation) -> Tensor:
    """vec(mean G_c) vec(mean G_c)^T, summed over the columns that all samples have."""
    columns = min(len(G) for G in seen.G)
    mean = torch.stack([G[:columns] for G in seen.G]).mean(0).flatten(1)
    return mean.T @ mean


def _averaged_over_columns(seen: Observation) -> Tensor:
    return oracle.fisher(seen) * len(seen.G) / sum(len(G) for G in seen.G)


BLOCKS = (
    Mutant(
        name="kfac-in-the-other-order",
        mistake="has A (x) B for KFAC (right: B (x) A, where vec stacks rows)",
        story="B (x) A or A (x) B hangs on the order of vec: curvlinops#182. Its EKFAC is right.",
        ekfac=CORRECT.ekfac,
        kfac=_blocks(_in_the_other_order),
        laws=("kfac",),
        only="a subject that offers KFAC",
    ),
    Mutant(
        name="kfac-over-n-twice",
        mistake="has N too many in the denominator of KFAC's B (right: one)",
        story="B of a mean loss's gradients: natural-gradients#2. EKFAC takes nothing but "
        "eigenvectors from B and is right.",
        ekfac=CORRECT.ekfac,
        kfac=_blocks(_over_n_twice),
        laws=("kfac", "doubled"),
        only="a subject that offers KFAC, N > 1",
    ),
    Mutant(
        name="kfac-inputs-over-samples",
        mistake="divides KFAC's A by the number of samples (right: of rows, one for each position)",
        story="A Gram matrix of tokens over the number of documents: bergson@f173b6a; sequences "
        "counted on one path and tokens on another: GPTQModel#1584. Its EKFAC is right.",
        ekfac=CORRECT.ekfac,
        kfac=_blocks(_summed_inputs),
        laws=("kfac",),
        only="a subject that offers KFAC, Expand, T > 1",
    ),
    Mutant(
        name="kfac-expand-for-reduce",
        mistake="makes KFAC of positions (right: Reduce was asked for, of samples)",
        story="An option that reaches EKFAC and not KFAC; one that reached nothing was "
        "backpack@c8ba1c6d.",
        ekfac=CORRECT.ekfac,
        kfac=_blocks(_expanded),
        laws=("kfac",),
        only="a subject that offers KFAC, Reduce, T > 1",
    ),
    Mutant(
        name="block-of-the-mean-gradient",
        mistake="has the outer product of the mean gradient for the exact block (right: the mean "
        "of the outer products)",
        story="The diagonals of pytorch-ewc#1 and GradientEpisodicMemory#7, in full. Its EKFAC is "
        "right.",
        ekfac=CORRECT.ekfac,
        exact_fisher=_blocks(_of_the_mean),
        laws=("exact block",),
        only="a subject that offers exact blocks, N > 1",
    ),
    Mutant(
        name="block-by-columns",
        mistake="flattens gradients by columns in the exact block (right: by rows)",
        story="vec of the papers and reshape of the code: curvlinops#182. Its EKFAC is right, and "
        "far from this block.",
        ekfac=CORRECT.ekfac,
        exact_fisher=_mean_square(lambda G, g, a: iter(G.transpose(1, 2))),
        laws=("exact block",),
        only="a subject that offers exact blocks, d_out > 1, d_in > 1",
    ),
    Mutant(
        name="block-averaged-over-columns",
        mistake="averages the exact block over columns (right: sums)",
        story="A 1/C in the sampler and none in EKFAC: curvlinops#111.",
        ekfac=CORRECT.ekfac,
        exact_fisher=_blocks(_averaged_over_columns),
        laws=("exact block",),
        only="a subject that offers exact blocks, C > 1",
    ),
    Mutant(
        name="block-of-single-positions",
        mistake="sums outer products over positions in the exact block (right: gradients)",
        story="Batch gradients with a token axis whose sum was left out on some paths: "
        "asdl@f01a926. Its EKFAC is right.",
        ekfac=CORRECT.ekfac,
        exact_fisher=_mean_square(
            lambda G, g, a: iter(torch.einsum("cto,ti->ctoi", g, a).flatten(0, 1))
        ),
        laws=("exact block",),
        only="a subject that offers exact blocks, T > 1",
    ),
)
