"""A refusal is the implementation's own: what its adapter cannot read has been answered."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Convention, Eigen, adapted, of_loss, samples, sum_loss

REFUSALS = ["nan", "unknown layer", "batch norm"]


def problem() -> ek.Problem:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double().eval()
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    return ek.Problem(model, [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian())


def in_parts(ekfac: Callable[[ek.Problem], Any]) -> Callable[[ek.Problem], Any]:
    """As an implementation would hand it to the adapter."""
    return lambda problem: {
        name: Eigen(E.Q_B, E.Q_A, E.eigenvalues) for name, E in ekfac(problem).items()
    }


@pytest.mark.parametrize("convention", [Convention(), Convention(scale=samples)])
@pytest.mark.parametrize(
    ("mutant", "law"),
    [
        ("nan-taken-for-zero", "nan"),
        ("unknown-layers-ignored", "unknown layer"),
        ("batch-norm-in-eval-mode", "batch norm"),
    ],
)
def test_one_that_swallows_it_is_noticed_behind_an_adapter(
    mutant: str, law: str, convention: Convention
) -> None:
    ekfac = adapted(in_parts(ct.MUTANTS[mutant].subject.ekfac), convention)
    found = ct.ask(ekfac, problem(), REFUSALS)
    assert [name for name, broken in found.items() if broken] == [law]


def test_its_own_refusals_count() -> None:
    for convention in (Convention(), Convention(scale=of_loss(sum_loss))):
        assert set(
            ct.ask(adapted(in_parts(ek.ekfac), convention), problem(), REFUSALS).values()
        ) == {None}


@pytest.mark.parametrize("parts", [None, {}, {"no": 1}, {"0": "nonsense", "2": 7}, [1, 2]])
def test_an_answer_that_cannot_be_read_is_no_refusal(parts: Any) -> None:
    """Nor is it the kit's fault: whatever it is, BadAnswer says so."""
    ekfac = adapted(lambda problem: parts)
    assert all(ct.ask(ekfac, problem(), REFUSALS).values())
    with pytest.raises(ct.BadAnswer):
        ekfac(problem())


@pytest.mark.parametrize("bad", ["abc", [[1.0], [2.0, 3.0]], {1: 2}, object()])
def test_parts_that_are_no_numbers(bad: Any) -> None:
    right = in_parts(ek.ekfac)(problem())
    wrong = {**right, "0": Eigen(bad, right["0"].Q_A, right["0"].eigenvalues)}
    of = r"layer '0', Q_B: a \w+.*, expected numbers; the layer is \[d_out, d_in\] = "
    with pytest.raises(ct.BadAnswer, match=of):
        adapted(lambda problem: wrong)(problem())


@pytest.mark.parametrize("method", ["kfac", "exact_fisher"])
@pytest.mark.parametrize("law", REFUSALS)
def test_every_way_to_ask_has_to_refuse(method: str, law: str) -> None:
    """A right EKFAC is no excuse for a KFAC that answers whatever it is asked."""
    silent = {method: lambda problem: {}}
    found = ct.ask(ct.Subject("half", ek.ekfac, **silent), problem(), [law])
    assert str(found[law]) == f"refused: {method} answered in silence"


def test_it_is_asked_about_the_problem_itself_and_before_it_is_read() -> None:
    """What it changes is seen, and the adapter reads what was there before."""

    def breaks_it(problem: ek.Problem) -> Any:
        answer = in_parts(ek.ekfac)(problem)
        problem.batches.clear()
        problem.model[0] = nn.Tanh()  # type: ignore[index]
        return answer

    given = problem()
    assert set(adapted(breaks_it, Convention(scale=samples))(given)) == {"0", "2"}
    assert given.batches == []


class Scaled(nn.Module):
    """Takes a constant beside its tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2, dtype=torch.float64)

    def forward(self, x: Any, twice: bool) -> Any:
        return self.linear(2 * x if twice else x)


def test_an_adapter_is_asked_about_inputs_with_constants_among_them() -> None:
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    given = ek.Problem(Scaled(), [({"x": x, "twice": True}, y)], ek.Gaussian())
    assert ct.check_on(adapted(in_parts(ek.ekfac)), given).exit_code == 0
