"""Layers that a batch does not use: experts that none of its samples goes to, and who uses none."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.matrix.lookup import LookupKronecker
from ekfac_ref.optim import EKFACPreconditioner
from ekfac_ref.question.one_hot import LARGE_VOCABULARY
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


class ByWord(nn.Module):
    """A table of words for each kind of sample, which the first word tells."""

    def __init__(self, words: int = 5) -> None:
        super().__init__()
        self.table = nn.ModuleList([nn.Embedding(words, 2), nn.Embedding(words, 2)])

    def forward(self, words: Tensor) -> Tensor:
        return torch.stack([self.table[int(w[0] > 2)](w).tanh().sum(0) for w in words])


def test_under_reduce_a_sample_without_positions_has_no_row() -> None:
    """A is the mean over the samples that have some, N+ of them."""
    x, y = batch(4)
    x[1, :, 0], x[2, :, 0] = -x[1, :, 0].abs(), x[2, :, 0].abs()
    question = replace(problem((x, y)), sharing=ek.Reduce())
    for name, gone in (("expert.0", x[..., 0] <= 0), ("expert.1", x[..., 0] > 0)):
        means = torch.stack([
            torch.cat([x[n][gone[n]].mean(0), torch.ones(1).double()])
            for n in range(3)
            if gone[n].any()
        ])  # fmt: skip
        A = means.T @ means / len(means)
        torch.testing.assert_close(ek.kfac(question)[name].A, A)
    E, F = ek.ekfac(question), ek.exact_fisher(question)
    for name in E:
        torch.testing.assert_close(E[name].trace(), F[name].trace())


@pytest.mark.parametrize("words", [2, 1])
def test_under_reduce_a_sample_without_words_has_no_bag(words: int) -> None:
    x = torch.tensor([[0, 1], [3, 3], [1, 4], [4, 2]])[:, :words]
    question = ek.Problem(ByWord().double(), [(x, torch.randn(4, 2).double())], ek.Gaussian())
    first = x[x[:, 0] <= 2]
    bags = nn.functional.one_hot(first, 5).double().mean(1)
    K = ek.kfac(replace(question, sharing=ek.Reduce()))
    torch.testing.assert_close(K["table.0"].A, bags.T @ bags / len(first))


def test_under_reduce_single_words_need_no_matrix_on_the_vocabulary() -> None:
    x, y = torch.tensor([[0], [3], [1], [4]]), torch.randn(4, 2).double()
    model = ByWord(LARGE_VOCABULARY + 1).double()
    K = ek.kfac(ek.Problem(model, [(x, y)], ek.Gaussian(), sharing=ek.Reduce()))
    assert isinstance(K["table.0"], LookupKronecker)


@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])
def test_on_trial_the_reference_is_right_where_samples_use_some_experts(
    sharing: ek.Expand | ek.Reduce,
) -> None:
    question = replace(problem(batch(4, BOTH)), sharing=sharing)
    subject = ct.Subject("the reference", ek.ekfac, ek.kfac, ek.exact_fisher)
    assert set(ct.ask(subject, question).values()) == {None}
    assert ct.check_on(subject, question).exit_code == 0


class Routed(nn.Module):
    """Weights of one expert that are always 1, so that the router's gradient is rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(4, 3)
        self.experts = nn.ModuleList([nn.Linear(4, 2) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.router(x).softmax(-1).topk(1)
        weight, y = weight / weight.sum(-1, keepdim=True), x.new_zeros(*x.shape[:-1], 2)
        for e, expert in enumerate(self.experts):
            if (to_it := chosen[..., 0] == e).any():
                y[to_it] = expert(x[to_it]) * weight[to_it]
        return y.mean(1)


def test_samples_are_looked_at_closely_whichever_experts_they_go_to() -> None:
    """A router that cancels is looked at in one sample, which need not use all experts."""
    torch.manual_seed(1)
    x = torch.randn(6, 2, 4).double()
    used = Routed().double()
    question = ek.Problem(used, [(x, torch.randn(6, 2).double())], ek.Gaussian())
    assert len(ek.kfac(question)) == 4


def test_a_preconditioner_begins_with_all_and_remembers_that_they_are_used() -> None:
    preconditioner = EKFACPreconditioner(Experts().double(), ek.Gaussian())
    advice = r"'expert.0.*give a batch that uses it, or leave it out.*EKFACPreconditioner\(layers="
    with pytest.raises(ek.ProblemError, match=advice):
        preconditioner.update(*batch(4, SECOND))
    preconditioner.update(*batch(5, BOTH))
    preconditioner.update(*batch(4, SECOND))
    assert preconditioner.updates == 2
    resumed = EKFACPreconditioner(preconditioner.model, ek.Gaussian())
    resumed.load_state_dict(preconditioner.state_dict())
    later = batch(4, SECOND)
    for one in (preconditioner, resumed):
        one.update(*later)
    for name, E in preconditioner.operators.items():
        assert torch.equal(resumed.operators[name].dense(), E.dense())
