"""A rank that fails: an error on all ranks that says which one, and no rank that waits."""

from dataclasses import replace
from typing import Any

import pytest
from torch import nn

import ekfac_ref as ek
from ekfac_ref import sharded
from studies.shards.cluster import Cluster, Raised
from tests.sharded import questions

WITHIN = 60.0  # seconds; a rank that waits for one that has failed would do so for longer


def errors(ranks: Cluster, question: Any, *arguments: Any) -> list[Raised]:
    found = ranks.ask(question, *arguments, within=WITHIN)
    assert all(isinstance(one, Raised) for one in found), found
    return found


def check_all_are_told(found: list[Raised], rank: int, kind: str, message: str) -> None:
    """The rank has its own error, and the others one that names it."""
    assert found[rank].kind == kind
    assert message in found[rank].message
    for other in (one for one in range(3) if one != rank):
        assert found[other].kind == "ProblemError"
        assert found[other].message.startswith(f"rank {rank} of 3 failed: ")
        assert message in found[other].message


def test_no_data_on_any_rank(ranks: Cluster) -> None:
    """What one rank says of no data."""
    with pytest.raises(ek.ProblemError) as one:
        ek.kfac(ek.Problem(questions.convolution().model, [], ek.Categorical()))
    assert errors(ranks, questions.without_data) == [Raised("NoBatches", str(one.value))] * 3


def test_no_data_to_scale_a_loss_by(ranks: Cluster) -> None:
    found = errors(ranks, questions.loss_scale_without_data)
    assert {one.kind for one in found} == {"NoBatches"}


def test_another_loss_on_one_rank(ranks: Cluster) -> None:
    for one in errors(ranks, questions.loss_scale_otherwise):
        assert one.message.startswith("rank 0 of 3: its function called is not that of the other")


def test_no_position_that_counts_on_any_rank(ranks: Cluster) -> None:
    found = errors(ranks, questions.nothing_counted)
    assert len(set(found)) == 1
    assert found[0].message.startswith("layer '0': the mask counts none of its positions")


@pytest.mark.parametrize("rank", [0, 2])
def test_a_problem_that_is_refused(ranks: Cluster, rank: int) -> None:
    found = errors(ranks, questions.with_nan, rank)
    check_all_are_told(found, rank, "ProblemError", "inputs: NaN or infinity in the batch")


@pytest.mark.parametrize("at", [1, 2], ids=["in the first pass", "in the second pass"])
def test_an_exception_of_whatever_kind(ranks: Cluster, at: int) -> None:
    found = errors(ranks, questions.failing, 1, at)
    check_all_are_told(found, 1, "OSError", "the disk is gone")
    assert "\n" not in found[0].message


def test_an_eigenproblem_without_memory(ranks: Cluster) -> None:
    """Rank 2 of three has none to solve, of two layers."""
    found = errors(ranks, questions.without_eigenvectors, 0)
    check_all_are_told(found, 0, "ProblemError", "memory: it does not suffice")


DIFFERENCES = {
    "parameter": "parameter '3.bias'",
    "buffer": "buffer 'scale'",
    "frozen": "parameter '3.bias'",
    "module": "module '1'",
    "fisher": "fisher",
    "layers": "choice of layers",
    "function": "function called",
}


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_rank_that_asks_otherwise(ranks: Cluster, what: str) -> None:
    found = errors(ranks, questions.differing, 0, what)
    assert len(set(found)) == 1
    expected = f"rank 0 of 3: its {DIFFERENCES[what]} is not that of the other ranks; call on all"
    assert found[0].kind == "ProblemError"
    assert found[0].message.startswith(expected)


def test_after_an_error_the_ranks_go_on(ranks: Cluster) -> None:
    errors(ranks, questions.failing, 2, 2)
    assert all(isinstance(one, list) for one in ranks.ask(questions.kinds))


@pytest.mark.usefixtures("alone")
def test_a_model_whose_forward_sends_to_other_ranks() -> None:
    problem = questions.convolution()
    model = nn.parallel.DistributedDataParallel(problem.model)
    with pytest.raises(ek.ProblemError, match=r"a DistributedDataParallel exchanges .* pass what"):
        sharded.kfac(replace(problem, model=model))
    assert sharded.kfac(replace(problem, model=model.module))


def test_without_a_group() -> None:
    with pytest.raises(ek.ProblemError, match="no group of processes; start with torchrun"):
        sharded.kfac(questions.convolution())
