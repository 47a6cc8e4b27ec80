"""An optimizer over several updates: right by each of the rules it may declare, and wrong."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.declared import (
    ByCurvature,
    ByGradient,
    FromTheFirst,
    FromZero,
    Hyperparameters,
    Latest,
    OverBatches,
    OverSamples,
    Restarted,
    Training,
)
from ekfac_ref.conformance.diagnosis import training
from ekfac_ref.conformance.laws.training.of_training import TRAINING_LAWS
from ekfac_ref.conformance.mutants.beside.training import UPDATES
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.trainer import Trainer, one_clip
from ekfac_ref.conformance.training.closed_form import Rules
from ekfac_ref.optim import EKFAC, KFAC
from tests.support.trains import trains

LAWS = [law.name for law in TRAINING_LAWS]
CLIPPING = Training(clip=ByCurvature())


def problem() -> ek.Problem:
    """Uneven batches, two layers, a full rank in each of the batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    batches = [(torch.randn(n, 2).double(), torch.randint(3, (n,))) for n in (9, 5)]
    return ek.Problem(model, batches, ek.Categorical())


def subject(optimizer: Any, definition: ct.Definition) -> ct.Subject:
    return ct.Subject("mine", optimizer=optimizer, definition=definition)


def declared(trained: Training, **others: Any) -> ct.Definition:
    return ct.Definition(training=trained, **others)


def broken(one: ct.Subject, laws: list[str] | None = None) -> set[str]:
    found = ct.ask(one, problem(), laws)
    return {law for law, error in found.items() if error is not None}


@pytest.mark.parametrize(
    ("make", "damping"), [(EKFAC, None), (KFAC, ct.OnKFAC())], ids=["EKFAC", "KFAC"]
)
def test_ours_breaks_nothing(make: Any, damping: Any) -> None:
    others = {} if damping is None else {"damping": damping}
    found = ct.ask(subject(trains(make), declared(CLIPPING, **others)), problem())
    assert {law: error for law, error in found.items() if error} == {}
    assert set(LAWS) <= set(found)


def test_a_kfac_that_is_taken_for_an_ekfac_is_noticed() -> None:
    assert {"first step", "running means", "refresh"} <= broken(
        subject(trains(KFAC), declared(CLIPPING))
    )


RULES = {
    "samples": CLIPPING,
    "batches": replace(CLIPPING, average=OverBatches()),
    "first": replace(CLIPPING, average=FromTheFirst()),
    "zero": replace(CLIPPING, average=FromZero()),
    "latest": replace(CLIPPING, average=Latest()),
    "restarted": replace(CLIPPING, at_refresh=Restarted()),
    "by gradient": Training(clip=ByGradient()),
    "every third": replace(CLIPPING, refresh_every=3),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("how", [ct.Definition(), ct.Definition(damping=ct.Factored())])
def test_what_is_declared_is_what_is_judged(rules: Training, how: ct.Definition) -> None:
    """Right by its own rules, and wrong by those of another one."""
    one = replace(Trainer(), definition=replace(how, training=rules))
    assert broken(subject(one.optimizer, one.definition)) == set()
    if isinstance(how.damping, ct.Factored) and rules.at_refresh == Restarted():
        return  # KFAC has no Lambda
    if rules is not CLIPPING:
        assert broken(subject(one.optimizer, replace(how, training=CLIPPING)))


def test_rows_are_counted_and_not_batches() -> None:
    """The closed form of uneven batches, by hand."""
    assert OverSamples().parts([9.0, 5.0], 0.5) == (4.5 / 9.5, 5 / 9.5)
    assert OverBatches().parts([9.0, 5.0], 0.5) == (0.5 / 1.5, 1 / 1.5)
    assert FromTheFirst().parts([9.0], 0.5) == (0.0, 1.0)
    assert FromZero().parts([9.0], 0.25) == (0.25, 0.75)


@pytest.mark.parametrize("mutant", UPDATES, ids=lambda mutant: mutant.name)
def test_a_planted_mistake_is_noticed_by_the_laws_that_it_names(mutant: Mutant) -> None:
    assert set(mutant.laws) <= broken(mutant.subject, LAWS)


def test_one_without_momentum_or_clip_is_asked_for_none() -> None:
    one = subject(trains(EKFAC), declared(Training(has_momentum=False)))
    assert not {"momentum", "clip"} & set(ct.ask(one, problem(), LAWS))


def test_what_is_no_step_is_a_bad_answer() -> None:
    def wrong(optimizer: Any) -> str:
        with pytest.raises(ct.BadAnswer) as error:
            ct.ask(subject(optimizer, declared(Training())), problem(), ["running means"])
        return str(error.value)

    def only_once(problem: ek.Problem, settings: Hyperparameters) -> Iterator[None]:
        yield

    def diverging(problem: ek.Problem, settings: Hyperparameters) -> Iterator[None]:
        for _ in problem.batches:
            problem.model[0].weight.data.fill_(float("inf"))
            yield

    assert "returned a NoneType; make it a generator" in wrong(lambda problem, settings: None)
    assert "yielded 1 times for 3 batches" in wrong(only_once)
    assert "NaN or infinite" in wrong(diverging)


def test_it_may_change_the_model_and_nothing_else() -> None:
    def scaling(problem: ek.Problem, settings: Hyperparameters) -> Iterator[None]:
        yield from trains(EKFAC)(problem, settings)
        problem.batches[0][0].mul_(2)

    one = subject(scaling, declared(Training()))
    assert broken(one, ["first step", "leaves alone"]) == {"leaves alone"}
    assert broken(one, ["leaves alone"]) == {"leaves alone"}  # whatever else was asked before
    assert broken(subject(trains(EKFAC), declared(Training())), ["leaves alone"]) == set()


def test_what_is_frozen_stays() -> None:
    def moving(problem: ek.Problem, settings: Hyperparameters) -> Iterator[None]:
        for _ in trains(EKFAC)(problem, settings):
            problem.model[0].bias.data.mul_(1.5)
            yield

    posed = problem()
    posed.model[0].bias.requires_grad_(False)
    for optimizer, says in ((trains(EKFAC), "None"), (moving, "'0.bias': frozen, and changed")):
        found = ct.ask(subject(optimizer, declared(Training())), posed, ["leaves alone"])
        assert says in str(found["leaves alone"])


def test_what_goes_wrong_after_the_first_step_of_a_kind_is_noticed() -> None:
    """A counter that is never put back, a nu that is kept, a velocity that begins dampened."""

    def kept(problem: ek.Problem, settings: Hyperparameters) -> Iterator[None]:
        first: dict[Any, float] = {}

        def nu(settings: Hyperparameters, squares: Any) -> dict[Any, float]:
            first.update({} if first else one_clip(settings, squares))
            return first

        yield from Trainer(nu=nu).optimizer(problem, settings)

    def dampened(momentum: float, before: Any, x: Any) -> Any:
        return momentum * before + x if before.any() else (1 - momentum) * x

    counting = Trainer(rules=Rules(due=lambda t, every: t == 0 or t >= every))
    for optimizer, law in (
        (counting.optimizer, "refresh"),
        (kept, "clip"),
        (Trainer(velocity=dampened).optimizer, "momentum"),
    ):
        assert broken(subject(optimizer, declared(CLIPPING)), LAWS) == {law}


def test_it_is_no_question_of_refusals() -> None:
    one = subject(trains(EKFAC), declared(Training()))
    assert not {"nan", "unknown layer", "batch norm", "recut"} & set(ct.ask(one, problem()))


NAMED = [m for m in UPDATES if m.laws != ("trained again",)]  # the first training is compared


@pytest.mark.parametrize("mutant", NAMED, ids=lambda mutant: mutant.name)
def test_the_diagnosis_names_it(mutant: Mutant) -> None:
    said = training.diagnosed_training(mutant.subject, [*UPDATES], 0, [problem()])
    assert said == f"Its steps: it looks as if the optimizer {mutant.mistake}."


def test_the_diagnosis_of_a_right_one_names_nothing() -> None:
    right = subject(trains(EKFAC), declared(CLIPPING))
    assert training.diagnosed_training(right, [*UPDATES], 0, [problem()]) == ""
    assert "Its steps agree" in ct.diagnose(right, problems=[problem()]).sentence
    of_kfac = subject(trains(KFAC), declared(CLIPPING))
    said = training.diagnosed_training(of_kfac, [*UPDATES], 0, [problem()])
    assert said == "Its steps are those of no mistake in the catalogue."


def test_a_run_of_a_right_one_conforms() -> None:
    """What it cannot be asked is not offered, and leaves nothing open."""
    one = replace(
        subject(trains(EKFAC), declared(CLIPPING)),
        abilities=ct.Abilities(
            layers=(nn.Linear,), fishers=(ek.Exact,), sharings=(ek.Expand,), positions=False
        ),
    )
    report = ct.check(one, ct.Profile("few", 12, 0.0), seed=1)
    assert report.exit_code == 0, report.summary
    passed = {v.law.name for v in report.verdicts if v.status is ct.Status.PASS}
    assert passed == {*LAWS, "leaves alone"}
