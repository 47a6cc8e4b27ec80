"""What a validator calls from Python: ask on a problem of one's own, check as the command does."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.laws.law import BY_CHANCE, Lane
from ekfac_ref.conformance.run.examiner import Here

TINY = ct.Profile("tiny", 3, 0.0)


def problem(**choices: Any) -> ek.Problem:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double().eval()
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    return ek.Problem(model, [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian(), **choices)


def twice(problem: ek.Problem) -> Any:
    return {name: block.scaled(2.0) for name, block in ek.ekfac(problem).items()}


def test_ask_says_what_holds_what_is_broken_and_leaves_out_the_rest() -> None:
    found = ct.ask(twice, problem(), ["symmetry", "trace", "kfac", "padding"])
    assert set(found) == {"symmetry", "trace"}  # no KFAC is offered, and there is no mask
    assert found["symmetry"] is None
    assert isinstance(found["trace"], ct.LawBroken)
    assert str(found["trace"]).startswith("tr E = tr F: residual ")


def test_without_names_every_law_is_asked() -> None:
    right = ct.Subject("right", ek.ekfac, ek.kfac, ek.exact_fisher)
    found = ct.ask(right, problem())
    beside = {Lane.PRECONDITION, Lane.INVERSE, Lane.DIAGONAL, Lane.GRADIENTS, Lane.NETWORK}
    beside |= {Lane.TRAINING, *BY_CHANCE}
    of_others = {law.name for law in ct.LAWS.values() if law.lane in beside}
    assert set(ct.LAWS) - set(found) == {"padding", *of_others}
    assert set(found.values()) == {None}


class ManyOutputs(nn.Module):
    """y and numbers that are none of its: what is written down of these is K x K."""

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y.repeat(1, 100_000)


@pytest.mark.parametrize("what", ["layers: '0' has 300,000 parameters", "outputs: a sample has"])
def test_what_does_not_fit_is_refused_before_it_is_begun_with(what: str) -> None:
    """The advice, followed, works."""
    wide = what.startswith("layers")
    d_in, d_out = (599, 500) if wide else (3, 2)
    model = nn.Sequential(nn.Linear(d_in, d_out), nn.Identity() if wide else ManyOutputs())
    x = torch.randn(3, d_in)
    y = torch.randn(3, d_out if wide else 200_000)
    large = ek.Problem(model, [(x, y)], ek.Gaussian(), ek.Empirical())
    with pytest.raises(ek.ProblemError, match=rf"{what}.* ask by check_on\(subject, problem\)"):
        ct.ask(ek.ekfac, large, ["trace"])
    assert ct.check_on(ek.ekfac, large, laws=["trace"]).exit_code == 0


@pytest.mark.parametrize("asking", [ct.ask, ct.check_on])
def test_nobody_is_held_to_labels_that_somebody_else_draws(asking: Callable[..., Any]) -> None:
    """The advice, followed, works; whoever draws labels is asked all the same."""
    x, y = torch.randn(4, 3).double(), torch.randn(4, 2).double()
    drawn = ek.Problem(torch.nn.Linear(3, 2).double(), [(x, y)], ek.Gaussian(), ek.Sampled(2))
    with pytest.raises(ek.ProblemError, match=r"fisher: .*hold ekfac to.*Exact\(\) or Empirical"):
        asking(ek.ekfac, drawn)
    for fisher in (ek.Exact(), ek.Empirical()):
        asking(ek.ekfac, replace(drawn, fisher=fisher))


def test_a_subject_that_draws_is_asked_whatever_the_fisher() -> None:
    x, y = torch.randn(3, 2).double(), torch.randn(3, 1).double()
    drawn = ek.Problem(torch.nn.Linear(2, 1).double(), [(x, y)], ek.Gaussian(), ek.Sampled())
    subject = ct.Subject("draws", sampled_kfac=ek.kfac)
    assert set(ct.ask(subject, drawn).values()) == {None}


@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])
def test_where_no_position_counts_nobody_is_judged(sharing: ek.Expand | ek.Reduce) -> None:
    """There is no A: the answer to that is an error, and not NaN, which breaks every law."""
    x, y = torch.randn(3, 4, 2).double(), torch.randn(3, 4, 1).double()
    model = nn.Sequential(nn.Linear(2, 1), nn.Threshold(9.0, 0.0)).double()  # no gradient either
    none = ek.Problem(model, [(x, y)], ek.Gaussian(), sharing=sharing, mask=lambda x: x[..., 0] > 9)
    zero = ct.Subject("zero", kfac=lambda problem: {"0": Zero()})
    with pytest.raises(RuntimeError, match="non-empty"):
        ct.ask(zero, none, ["kfac"])


class Zero:
    """The operator 0."""

    def matvec(self, V: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(V)


def test_ask_takes_an_object_and_raises_what_it_raises() -> None:
    class Mine:
        def ekfac(self, problem: ek.Problem) -> Any:
            raise ZeroDivisionError("not today")

    with pytest.raises(ZeroDivisionError, match="not today"):
        ct.ask(Mine(), problem(), ["trace"])
    with pytest.raises(ct.BadAnswer, match="expected a dict of"):
        ct.ask(lambda problem: {}, problem(), ["trace"])


def test_check_names_the_mistake() -> None:
    report = ct.check(twice, TINY, laws=["trace", "symmetry"])
    assert report.exit_code == 1
    assert report.summary == "It does not conform (broken: trace)."
    assert "factor: times 2" in report.diagnosis
    assert [v.law.name for v in report.verdicts] == ["symmetry", "trace"]


def test_verdicts_and_causes_do_not_depend_on_what_explains_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    laws = ["trace", "symmetry", "moments"]
    whole = ct.check(twice, TINY, laws=laws)
    for search in ("shrink", "diagnose"):
        monkeypatch.setattr(Here, search, None)
    report = ct.check(twice, replace(TINY, explains=False), laws=laws)
    assert [v.status for v in report.verdicts] == [v.status for v in whole.verdicts]
    assert [c.sentence for c in report.causes] == [c.sentence for c in whole.causes]
    assert report.exit_code == 1
    assert (report.diagnosis, whole.diagnosis != "") == ("", True)
    assert len(report.exhibits) == len(whole.exhibits) > 0


def test_a_known_deviation_is_no_failure() -> None:
    report = ct.check(twice, TINY, laws=["trace"], known={"trace": "a squared error's 2"})
    assert report.exit_code == 0
    assert [v.status for v in report.verdicts] == [ct.Status.EXPECTED_FAILURE]
    assert report.diagnosis == ""


def test_check_keeps_to_the_time_limit() -> None:
    def hangs(problem: ek.Problem) -> Any:
        time.sleep(60)

    report = ct.check(hangs, ct.Profile("one", 1, 0.0), laws=["trace"], seconds=1.0)
    assert report.exit_code == 3
    assert [trouble.what for trouble in report.troubles] == ["it took more than 1 s"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"profile": "slow"},
            "profile: there is no 'slow'; choose among ['demo', 'verdicts', 'quick', 'full']",
        ),
        ({"laws": ["tracy"]}, "laws: there is no 'tracy'; did you mean 'trace'? choose among ["),
        ({"known": {"tracy": "?"}}, "known, laws: there is no 'tracy'; did you mean 'trace'?"),
    ],
)
def test_names_that_are_none_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ek.ProblemError) as error:
        ct.check(ek.ekfac, **wrong)
    assert str(error.value).startswith(says)
    with pytest.raises(ek.ProblemError, match=r"laws: there are none called \['tracy'\]"):
        ct.ask(ek.ekfac, problem(), ["trace", "tracy"])


def test_a_mutant_can_be_loaded_like_a_subject_of_ones_own() -> None:
    assert ct.load("mutant:half-lambda").name == "mutant half-lambda"
    assert ct.load("ekfac_ref.examples:hooks").name == "hooks"
    with pytest.raises(ek.ProblemError, match="no such mutant; choose among"):
        ct.load("mutant:no-such")
