"""Layers that a batch does not use: experts that none of its samples goes to, and who uses none."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.optim import EKFACPreconditioner
from tests.support.experts import Experts
from tests.support.one_by_one import check
from tests.support.refusals import ENTRIES

# Where rows go is a question about values, which vmap cannot ask.
pytestmark = pytest.mark.filterwarnings("ignore:model. .*one after another")


def batch(length: int, signs: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Three samples; given signs, of the first number of all rows of each."""
    x = torch.randn(3, length, 4).double()
    for n, sign in enumerate(signs):
        x[n, :, 0] = sign * x[n, :, 0].abs()
    return x, torch.randn(3, 3).double()


BOTH, FIRST, SECOND = (-1, 1, -1), (-1, -1, -1), (1, 1, 1)


def problem(*batches: tuple[Tensor, Tensor]) -> ek.Problem:
    return ek.Problem(Experts().double(), list(batches), ek.Gaussian())


@pytest.mark.parametrize(
    "batches",
    [
        [(5, ()), (5, SECOND)],
        [(5, SECOND), (5, ())],
        [(5, ()), (4, SECOND)],
        [(4, SECOND), (5, ())],
        [(4, SECOND), (4, FIRST)],
        [(4, FIRST), (5, SECOND), (6, BOTH)],
        [(4, BOTH)],
    ],
    ids=str,
)
def test_their_order_and_lengths_do_not_matter(batches: list[Any]) -> None:
    """Against loops and hooks."""
    check(problem(*(batch(*one) for one in batches)))


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_one_that_no_batch_uses_is_refused(entry: Callable[[ek.Problem], Any]) -> None:
    """With the names of the others, by which it runs."""
    question = problem(batch(4, SECOND), batch(5, SECOND))
    with pytest.raises(ek.ProblemError, match=r"'expert.0.*never used.*on no batch") as caught:
        entry(question)
    layers = re.findall(r"'([^']+)'", str(caught.value).rpartition("Problem(layers=")[2])
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in layers} == {
        "expert.1",
        "head",
    }
    entry(ek.Problem(question.model, question.batches, ek.Gaussian(), layers=("expert.1", "head")))


class OneCursor:
    """Data whose iterators are all at one place: a second one that is begun spoils the first."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self._batches, self._left = batches, iter(())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._left = iter(self._batches)
        return (next(self._left) for _ in self._batches)


def test_all_samples_are_read_where_the_first_batch_leaves_one_unused() -> None:
    batches = [batch(4, SECOND), batch(5, FIRST), batch(5, BOTH)]
    plain = problem(*batches)
    once = ek.Problem(plain.model, OneCursor(batches), ek.Gaussian())
    found = torch.cat([G["head"].flatten() for G in ek.per_sample_gradients(once)])
    wanted = torch.cat([G["head"].flatten() for G in ek.per_sample_gradients(plain)])
    assert torch.equal(found, wanted)


def test_random_data_is_looked_through_without_being_changed() -> None:
    """Every pass sees what a first one would."""
    firsts = []

    class Drawn:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            firsts.append(batch(4, SECOND))
            yield firsts[-1]
            yield batch(4, FIRST)

    question = ek.Problem(Experts().double(), Drawn(), ek.Gaussian())
    torch.manual_seed(0)
    x = [x for x, _ in question.batches][1].flatten(0, 1)
    torch.manual_seed(0)
    found = ek.kfac(question)
    a = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    torch.testing.assert_close(found["expert.0"].A, a.T @ a / len(a))
    assert len(firsts) > 3
    assert all(torch.equal(x, firsts[0][0]) for x, _ in firsts)


def test_a_preconditioner_begins_with_all_and_remembers_that_they_are_used() -> None:
    preconditioner = EKFACPreconditioner(Experts().double(), ek.Gaussian())
    advice = r"'expert.0.*give a batch that uses it, or leave it out.*EKFACPreconditioner\(layers="
    with pytest.raises(ek.ProblemError, match=advice):
        preconditioner.update(*batch(4, SECOND))
    preconditioner.update(*batch(5, BOTH))
    preconditioner.update(*batch(4, SECOND))
    assert preconditioner.updates == 2
