"""What is looked up equals what is observed anew, whatever was observed before."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.problems.changed import in_reverse, other_labels, recut
from ekfac_ref.conformance.truth import cache
from ekfac_ref.conformance.truth.observation import Observations, observe
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.copies.deep_copy import deep_copy


class Doubling(nn.Module):
    """In train mode."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if self.training else x


def problem(dtype: torch.dtype = torch.float32) -> ek.Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), Doubling(), nn.Linear(2, 3)).to(dtype)
    x = torch.randn(5, 4, 3).to(dtype)
    y = torch.where(x[..., 0] > 0, torch.randint(3, (5, 4)), -100)
    batches = [(x[:3], y[:3]), (x[3:], y[3:])]
    return ek.Problem(model, batches, ek.Categorical(class_axis=-1), ek.Empirical())


def changed(one: ek.Problem) -> Iterator[ek.Problem]:
    """The problem with one thing changed at a time, and with a parameter written into."""
    yield one
    yield other_labels(one)
    yield replace(one, fisher=ek.Exact())
    yield replace(one, sharing=ek.Reduce())
    yield replace(one, layers=("2",))
    yield replace(one, mask=lambda x: x[..., 0] > 0)
    yield recut(one)
    yield in_reverse(one)
    yield replace(one, batches=[(2 * x, y) for x, y in one.batches])
    yield replace(one, likelihood=ek.Gaussian(), batches=[(x, 1.0 * x) for x, _ in one.batches])
    other = replace(one, model=deep_copy(one.model))
    yield other
    with torch.no_grad():
        other.model[0].weight[0, 0] += 1
    yield other
    other.model.eval()
    yield other
    other.model[2].bias.requires_grad_(False)
    yield replace(other, layers=("0",))


def numbers(found: Observations) -> list[Tensor]:
    fields = ("a", "g", "counted", "G", "rounding_a", "size_g")
    groups = [seen for of_layer in found.values() for seen in of_layer]
    return [x for seen in groups for field in fields for x in getattr(seen, field)]


@pytest.mark.parametrize("rounding", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_changed_problem_has_an_observation_of_its_own(
    rounding: bool, dtype: torch.dtype
) -> None:
    lookup = cache.observed if rounding else cache.observed_exactly
    seen = [
        (numbers(lookup(one)), numbers(observe(one, rounding))) for one in changed(problem(dtype))
    ]
    for looked_up, anew in seen:
        assert len(looked_up) == len(anew) > 0
        assert all(torch.equal(x, y) for x, y in zip(looked_up, anew, strict=True))


def test_another_question_on_the_same_inputs_is_observed_as_it_is() -> None:
    one = problem()
    cache.observed_exactly(one)
    for other in (replace(one, fisher=ek.Exact()), other_labels(one)):
        found = numbers(cache.observed_otherwise(one, other))
        anew = numbers(observe(other, rounding=False))
        assert all(torch.equal(x, y) for x, y in zip(found, anew, strict=True))


class SecondFor(nn.Module):
    """Samples whose first input is positive go through a second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        goes = x[:, 0] > 0
        return h if not goes.any() else h.index_put((goes,), self.second(h[goes]))


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
def test_what_is_known_of_a_model_is_not_taken_for_known_on_other_inputs() -> None:
    """On these, one of its layers is used by no sample."""
    torch.manual_seed(0)
    x, y = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    used = ek.Problem(SecondFor().double(), [(x, y)], ek.Gaussian())
    unused = replace(used, batches=[(-x.abs(), y)])
    cache.observed_exactly(used)
    with pytest.raises(ProblemError, match="'second'"):
        cache.observed_exactly(unused)
