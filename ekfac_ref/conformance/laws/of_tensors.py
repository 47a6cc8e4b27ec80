r"""Laws of what is no block: the diagonal of F, per-sample gradients, the Fisher of all layers.

The columns of a sample are unique up to an orthogonal transformation of their axis, but for the
empirical Fisher, which has one. So what is compared is what the transformation leaves alone.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ekfac_ref.conformance.laws.law import ALGEBRA, DEFINITION, Lane, law_of_a_trial, named
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.preconditioned import Vectors, at_random
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.tolerance import LawBroken, bounded, fisher_scale
from ekfac_ref.question.columns import Empirical


def _blocks(trial: Trial) -> Iterator[tuple[str, Block]]:
    for name, blocks in trial.blocks.items():
        for block in blocks:
            yield name, block


@law_of_a_trial("diagonal", DEFINITION, Lane.DIAGONAL)
def diagonal_of_the_block(trial: Trial) -> Iterator[float]:
    """diag F = (1/N) sum_nc G_nc^2, entry by entry"""
    for name, block in _blocks(trial):
        seen = block.seen
        right = torch.stack([(G**2).sum(0) for G in seen.G]).mean(0)
        residual = block.of(trial.diagonals[name]) - right
        yield bounded("diag F", residual, fisher_scale(seen), seen)


@law_of_a_trial("sample gradients", DEFINITION, Lane.GRADIENTS)
def gradients_of_samples(trial: Trial) -> Iterator[float]:
    """sum_c vec(G_nc) vec(G_nc)^T of every sample n; G_n itself under the empirical Fisher"""
    empirical = isinstance(trial.problem.fisher, Empirical)
    for name, block in _blocks(trial):
        if name not in trial.sample_gradients:
            return
        seen = block.seen
        scale = fisher_scale(seen) * len(seen.G)  # a bound on the square of any G_n
        for got, right in zip(trial.sample_gradients[name], seen.G, strict=True):
            own = got[:, block.rows, block.columns]
            if empirical and own.shape == right.shape:
                yield bounded("G_n", own - right, scale**0.5, seen)
            else:
                one, other = own.flatten(1), right.flatten(1)
                yield bounded("sum_c G_nc G_nc^T", one.T @ one - other.T @ other, scale, seen)


@law_of_a_trial(
    "mean gradient", DEFINITION, Lane.GRADIENTS, lambda abilities: Empirical in abilities.fishers
)
def gradients_add_up(trial: Trial) -> Iterator[float]:
    """(1/N) sum_n G_n is the gradient of the mean loss, under the empirical Fisher"""
    if not isinstance(trial.problem.fisher, Empirical):
        return
    for name, block in _blocks(trial):
        if name not in trial.sample_gradients:
            return
        seen = block.seen
        right = torch.stack([G.sum(0) for G in seen.G]).mean(0)
        mean = block.of(trial.sample_gradients[name].sum(1).mean(0))
        yield bounded("(1/N) sum_n G_n", mean - right, fisher_scale(seen) ** 0.5, seen)


@law_of_a_trial("network", DEFINITION, Lane.NETWORK)
def product_with_the_network(trial: Trial) -> Iterator[float]:
    """F_ij V_j = (1/N) sum_nc vec(G_nci) <G_ncj, V_j>, for layers i and j

    And F V is the sum of these over j: a V of all layers at once may take another path.
    """
    V = at_random(trial.blocks, seed=3)
    for j in V:
        alone = {name: x if name == j else torch.zeros_like(x) for name, x in V.items()}
        answers, right = trial.fisher_product(alone), _product(trial, alone)
        for i in V:
            with named(f"block of layers {i!r} and {j!r}"):
                yield _apart(trial, i, answers[i] - right[i], alone)
    answers, right = trial.fisher_product(V), _product(trial, V)
    for i in V:
        with named(f"all layers at once, layer {i!r}"):
            yield _apart(trial, i, answers[i] - right[i], V)


@law_of_a_trial("network linear", DEFINITION, Lane.NETWORK)
def linear_in_the_network(trial: Trial) -> Iterator[float]:
    """F (U + W) = F U + F W, and the same bits twice"""
    U, W = (at_random(trial.blocks, seed) for seed in (3, 4))
    both = {name: U[name] + W[name] for name in U}
    of_U, of_W, of_both = (trial.fisher_product(V) for V in (U, W, both))
    again = trial.fisher_product(U)
    for name in U:
        if not torch.equal(of_U[name], again[name]):
            raise LawBroken("fisher_product: the same question twice has two answers")
        yield _apart(trial, name, of_both[name] - of_U[name] - of_W[name], both)


@law_of_a_trial("network symmetric", ALGEBRA, Lane.NETWORK)
def symmetric_in_the_network(trial: Trial) -> Iterator[float]:
    """<W, F U> = <U, F W> and <U, F U> >= 0, over all layers"""
    U, W = (at_random(trial.blocks, seed) for seed in (3, 4))
    of_U, of_W = trial.fisher_product(U), trial.fisher_product(W)
    seen = next(iter(trial.blocks.values()))[0].seen
    size = sum(fisher_scale(block.seen) for _, block in _blocks(trial))
    scale = size * float(_inner(U, U) * _inner(W, W)) ** 0.5
    yield bounded("<W, F U> = <U, F W>", _inner(W, of_U) - _inner(U, of_W), scale, seen)
    scale = size * float(_inner(U, U))
    yield bounded("<U, F U> >= 0", _inner(U, of_U).clamp(max=0), scale, seen)


def _inner(V: Vectors, X: Vectors) -> Tensor:
    return torch.stack([(V[name] * X[name]).sum() for name in V]).sum()


def _product(trial: Trial, V: Vectors) -> Vectors:
    """F V by the definition."""
    return oracle.product_with_all(trial.seen, V)


def _apart(trial: Trial, name: str, residual: Tensor, V: Vectors) -> float:
    """Bounded by sqrt(F_ii F_jj) |V_j|, summed over the layers j."""
    scales = {
        layer: sum(fisher_scale(one) for one in groups) for layer, groups in trial.seen.items()
    }
    size = sum(scales[j] ** 0.5 * float(x.norm()) for j, x in V.items())
    return bounded("F V", residual, scales[name] ** 0.5 * size, trial.seen[name][0])


def _unchanged_diagonal(trial: Trial, later: Trial) -> Iterator[float]:
    """The diagonal of two trials is the same."""
    if trial.subject.tensors:
        for name, block in _blocks(trial):
            difference = block.of(later.diagonals[name]) - block.of(trial.diagonals[name])
            yield bounded("diag F unchanged", difference, fisher_scale(block.seen), block.seen)


def _unchanged_product(trial: Trial, later: Trial) -> Iterator[float]:
    """F V of two trials is the same."""
    if trial.subject.fisher_product is not None:
        V = at_random(trial.blocks, seed=3)
        one, other = trial.fisher_product(V), later.fisher_product(V)
        for name in V:
            yield _apart(trial, name, other[name] - one[name], V)


UNCHANGED_TENSORS = (_unchanged_diagonal, _unchanged_product)
TENSOR_LAWS = (
    diagonal_of_the_block,
    gradients_of_samples,
    gradients_add_up,
    product_with_the_network,
    linear_in_the_network,
    symmetric_in_the_network,
)
