"""Several ranks are one rank: counts, factors, eigenvalues, and the operators on every rank."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

import ekfac_ref as ek
from ekfac_ref import sharded
from ekfac_ref.matrix.kfac import FactorSums
from ekfac_ref.matrix.outer_products import Gram
from ekfac_ref.matrix.words import Counts
from ekfac_ref.optim import EKFAC, KFAC
from ekfac_ref.sharded.eigenproblems import owners
from studies.shards.cluster import Cluster
from studies.shards.comparison import Compared, compared
from studies.shards.result import ROUNDINGS
from tests.sharded import questions

DRAWN = 8  # problems; ``python -m studies.shards`` asks a hundred


def check(found: Compared) -> None:
    assert found.counts
    assert max(found.A, found.B, found.Lambda) < ROUNDINGS
    assert all(found.laws.values())
    assert found.same


@pytest.mark.parametrize("number", range(DRAWN))
def test_three_ranks_are_one(ranks: Cluster, number: int) -> None:
    found, *others = ranks.ask(compared, 0, DRAWN, number)
    assert isinstance(found, Compared), (found, others)
    assert "eigenvalues" in found.laws
    check(found)


@pytest.mark.parametrize("name", questions.PROBLEMS)
def test_shards_of_all_kinds(ranks: Cluster, name: str) -> None:
    found, *_ = ranks.ask(questions.beside, name)
    assert found.samples == questions.PROBLEMS[name][1]
    check(found)


@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical()], ids=["exact", "empirical"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_scale_of_a_loss_counts_the_labels_of_all(
    ranks: Cluster, reduction: str, fisher: ek.Exact | ek.Empirical
) -> None:
    for found, right in ranks.ask(questions.loss_scale, reduction, fisher):
        assert found == right


def test_one_basis_where_solvers_differ(ranks: Cluster) -> None:
    check(ranks.ask(questions.where_solvers_differ)[0])


def test_a_layer_that_one_rank_does_not_use(ranks: Cluster) -> None:
    check(ranks.ask(questions.an_expert_that_a_rank_does_not_use)[0])


def test_counts_of_words_beside_a_matrix(ranks: Cluster) -> None:
    """Under Reduce A is diagonal on a rank whose samples have one word each, and a matrix there."""
    check(ranks.ask(questions.one_word_beside_several)[0])


def test_an_embedding_of_many_words_stays_a_lookup(ranks: Cluster) -> None:
    assert ranks.ask(questions.kinds) == [["LookupKronecker", "LookupEigenKronecker"]] * 3


def test_some_ranks_alone_are_a_group(ranks: Cluster) -> None:
    outside, *inside = ranks.ask(questions.in_a_group, (1, 2))
    assert "this process is not one of its ranks" in outside.message
    assert all(off < 1e-13 for errors in inside for off in errors)


@pytest.mark.parametrize("make", [EKFAC, KFAC])
def test_replicas_that_are_trained_on_one_curvature_stay_one(ranks: Cluster, make: Any) -> None:
    """As the refusal of their wrapper advises."""
    one, *others = ranks.ask(questions.trained_in_parallel, make)
    assert isinstance(one, list), one
    assert others == [one, one]


def test_two_all_reduces_and_one_broadcast_for_each_layer(ranks: Cluster) -> None:
    """With as many bytes as the page says."""
    first, second = (2 * [(7, 3)], [(31, 4)])  # groups of the convolution, the linear layer
    factors = [("sum", 8 * sum(i * i + o * o for i, o in layer)) for layer in (first, second)]
    bases = [("send", size) for _, size in factors]
    squares = [("sum", 8 * sum(i * o for i, o in layer)) for layer in (first, second)]
    assert ranks.ask(questions.traffic) == [factors + bases + squares] * 3


def test_every_eigenproblem_is_solved_once(ranks: Cluster) -> None:
    assert ranks.ask(questions.solver) == ["[4, 31]", "[3, 3, 7, 7]", "[]"]


def test_the_largest_eigenproblem_goes_to_whom_has_least_to_do() -> None:
    def layer(d_out: int, d_in: int) -> list[FactorSums]:
        return [FactorSums(Gram(torch.eye(d_in)), Gram(torch.eye(d_out)), 1, 1)]

    words = FactorSums(Counts(torch.ones(900).long(), torch.float32), Gram(torch.eye(2)), 1, 1)
    factors = {"a": layer(2, 3), "b": layer(9, 9), "c": layer(9, 8), "d": [words], "e": layer(1, 4)}
    assert owners(factors, 2) == {"b": 0, "c": 1, "e": 1, "a": 1, "d": 1}
    assert set(owners(factors, 1).values()) == {0}


@pytest.mark.shapes
@pytest.mark.usefixtures("alone")
@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("name", questions.PROBLEMS)
def test_a_group_of_one_changes_nothing(name: str) -> None:
    problem = questions.PROBLEMS[name][0]()
    before = torch.get_rng_state(), [p.clone() for p in problem.model.parameters()]
    K, E, one = sharded.kfac(problem), sharded.ekfac(problem), ek.ekfac(problem)
    V = {layer: torch.randn(X.shape).double() for layer, X in one.items()}
    torch.set_rng_state(before[0])
    for layer, X in ek.kfac(problem).items():
        assert_close(K[layer].matvec(V[layer]), X.matvec(V[layer]))
        assert_close(E[layer].matvec(V[layer]), one[layer].matvec(V[layer]))
    assert_close(list(problem.model.parameters()), before[1], rtol=0, atol=0)


@pytest.mark.usefixtures("alone")
def test_random_numbers_stay_where_they_are() -> None:
    problem = questions.convolution(ek.Sampled(2))
    data = [*problem.batches[0]]
    loader = torch.utils.data.DataLoader(
        list(zip(*data, strict=True)), 4, shuffle=True, generator=torch.Generator()
    )
    before = torch.get_rng_state(), loader.generator.get_state()
    sharded.ekfac(replace(problem, batches=loader))
    assert_close((torch.get_rng_state(), loader.generator.get_state()), before)
