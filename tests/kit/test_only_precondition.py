"""A preconditioner that shows no matrix: right, and wrong in what it inverts, adds and ignores."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.declared.damping import Factored, OnKFAC
from ekfac_ref.conformance.diagnosis import selection
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.laws.of_a_preconditioner import PRECONDITIONS
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.reports.furthest import furthest
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS, perturbed
from ekfac_ref.conformance.subjects.trial import Trial
from tests.support.partial_subjects import (
    LINEAR,
    by_solve,
    ekfac,
    factored,
    kfac,
    of_the_mean_gradient,
    once,
    problem,
    solving,
)

EKFAC, KFAC, FACTORED = by_solve(ekfac), by_solve(kfac), by_solve(once(solving(factored)))
LAWS = [law.name for law in PRECONDITIONS]
ON_KFAC, BY_FACTORS = ct.Definition(damping=OnKFAC()), ct.Definition(damping=Factored())


def subject(precondition: Any, **declared: Any) -> ct.Subject:
    return ct.Subject("mine", precondition=precondition, **declared)


def broken(one: ct.Subject, laws: list[str], question: ek.Problem | None = None) -> set[str]:
    found = ct.ask(one, question or problem(), laws)
    return {name for name, error in found.items() if error is not None}


def of_the_first(answer: Any) -> Any:
    """Every answer is that to the first question."""
    kept: dict[str, Tensor] = {}

    def precondition(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        kept.update(kept or answer(problem, V, damping))
        return {name: x.clone() for name, x in kept.items()}

    return precondition


def nonlinear(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
    """Clipped: no longer than 1."""
    found = EKFAC(problem, V, damping)
    return {name: x / max(1.0, float(x.norm())) for name, x in found.items()}


def coupled(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
    """All layers clipped together, by the norm of all."""
    found = EKFAC(problem, V, damping)
    size = sum(float(x.norm()) for x in found.values())
    return {name: x / max(1.0, size) for name, x in found.items()}


def one_sided(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
    """Turned into the basis and not back."""
    blocks = ekfac(problem)
    return {n: blocks[n].Q_B.T @ x @ blocks[n].Q_A for n, x in EKFAC(problem, V, damping).items()}


def with_a_step(size: float) -> Any:
    return lambda *asked: {name: size * x for name, x in EKFAC(*asked).items()}


@pytest.mark.parametrize(
    ("right", "definition"),
    [(EKFAC, ct.Definition()), (KFAC, ON_KFAC), (FACTORED, BY_FACTORS)],
    ids=["EKFAC", "KFAC", "by factors"],
)
def test_a_right_one_breaks_nothing(right: Any, definition: ct.Definition) -> None:
    found = ct.ask(subject(right, definition=definition), problem())
    assert set(found.values()) == {None}
    of_E = {law.name for law in ct.LAWS.values() if law.lane is Lane.EKFAC} - {"exactness"}
    assert (of_E <= set(found)) == (right is EKFAC)
    assert set(LAWS) - set(found) == ({"P resolvent"} if right is FACTORED else set())
    asked = {"recut", "order", "doubled", "labels", "no memory", "leaves alone", "nan"}
    assert asked <= set(found)


@pytest.mark.parametrize(
    ("wrong", "laws"),
    [
        (by_solve(ekfac, lambda d: 2 * d), {"P resolvent", "P inverse", "P bounded"}),
        (by_solve(ekfac, lambda d: d**2), {"P resolvent", "P inverse"}),
        (by_solve(ekfac, lambda d: d**0.5), {"P resolvent", "P inverse"}),
        (by_solve(ekfac, lambda d: 1e-3), {"P resolvent", "P inverse"}),
        (KFAC, {"P inverse"}),
        (FACTORED, {"P resolvent", "P inverse"}),
        (with_a_step(0.1), {"P resolvent", "P inverse", "P bounded"}),
        (with_a_step(-1.0), {"P resolvent", "P inverse", "P bounded"}),
        (nonlinear, {"P linear"}),
        (coupled, {"P linear"}),
        (one_sided, {"P symmetric", "P commutes", "P resolvent", "P inverse"}),
        (lambda problem, V, d: {n: x / d for n, x in V.items()}, {"P inverse"}),
        (lambda problem, V, d: {n: 0 * x for n, x in V.items()}, {"P bounded", "P inverse"}),
        (of_the_first(EKFAC), {"P linear", "P inverse"}),
        (of_the_mean_gradient, {"P linear", "P inverse"}),
    ],
    ids=[
        "twice",
        "squared",
        "root",
        "fixed",
        "kfac",
        "factored",
        "lr",
        "ascent",
        "clip",
        "together",
        "turned",
        "I/d",
        "zero",
        "first",
        "grad",
    ],
)
def test_a_wrong_one_is_noticed(wrong: Any, laws: set[str]) -> None:
    assert laws <= broken(subject(wrong), LAWS)


@pytest.mark.parametrize("definition", [ON_KFAC, BY_FACTORS], ids=["KFAC", "by factors"])
@pytest.mark.parametrize("wrong", [EKFAC, by_solve(kfac, lambda d: 2 * d)])
def test_what_is_declared_excuses_nothing(definition: ct.Definition, wrong: Any) -> None:
    assert "P inverse" in broken(subject(wrong, definition=definition), ["P inverse"])


def test_one_that_takes_another_gradient_is_told_so() -> None:
    for wrong, says in (
        (of_the_mean_gradient, "right for that gradient alone, and ignores the one that it is"),
        (of_the_first(EKFAC), "have one and the same answer: it ignores the gradients that it is"),
    ):
        assert says in str(ct.ask(subject(wrong), problem(), ["P linear"])["P linear"])


def test_it_is_asked_what_everybody_is_asked() -> None:
    def quiet(question: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        batches = [(x.nan_to_num(), y) for x, y in question.batches]
        return EKFAC(replace(question, batches=batches), V, damping)

    def by_the_last_batch(question: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        return EKFAC(replace(question, batches=question.batches[-1:]), V, damping)

    def leaves(question: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        next(question.model.parameters()).grad = torch.zeros(4, 2).double()
        return EKFAC(question, V, damping)

    class Stale:
        old: Any = None

        def __call__(self, question: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
            fresh = ek.ekfac(question)
            self.old, used = fresh, self.old or fresh
            return by_solve(lambda question: used)(question, V, damping)

    assert broken(subject(quiet), ["nan", "batch norm"]) == {"nan"}
    assert broken(subject(by_the_last_batch), ["recut", "doubled"]) == {"recut"}
    assert broken(subject(leaves), ["leaves alone"]) == {"leaves alone"}
    assert broken(subject(Stale()), ["no memory"]) == {"no memory"}


def test_E_is_known_from_its_inverse_to_so_many_roundings() -> None:
    """The laws of E, asked of P^-1 - d I, find a Lambda that is off where P does not show it."""

    def unmeasured(question: ek.Problem) -> Any:
        """KFAC's eigenvalues scaled to the right trace: in the basis, psd, of the right size."""
        return {
            name: block.scaled(float(E.trace() / block.trace()))
            for (name, block), E in zip(
                ek.kfac(question).items(), ek.ekfac(question).values(), strict=True
            )
        }

    one = subject(by_solve(unmeasured))
    found = ct.ask(one, problem(), ["trace", "commutes", "self-projection", "P commutes"])
    assert [name for name, error in found.items() if error] == ["self-projection"]
    says = str(found["self-projection"])
    assert says.startswith("precondition, E = P^-1 - d I at d = 0.1, known to ")


def test_a_block_that_is_lost_beside_the_damping_is_not_read_from_its_inverse() -> None:
    question = problem()
    with torch.no_grad():
        question.model.get_parameter("2.weight").mul_(1e-22)  # so E of layer 0 is some 1e-44
    found = ct.ask(subject(EKFAC), question)
    assert not any(found.values())
    assert "self-projection" in found  # of the other layer
    first, last = Trial(subject(EKFAC), question).cases
    assert first.inverted is None
    assert last.inverted is not None


def test_large_layers_are_asked_through_vectors_only() -> None:
    large = ek.Problem(
        torch.nn.Linear(6, 4).double(),
        [(torch.randn(5, 6).double(), torch.randint(4, (5,)))],
        ek.Categorical(),
    )
    found = ct.ask(subject(EKFAC), large)
    assert "trace" not in found
    assert set(LAWS) <= set(found)
    assert not any(found.values())


def test_a_picture_of_what_is_inverted() -> None:
    seen = furthest(subject(by_solve(ekfac, lambda d: 2 * d)), Written.of(problem()), Lane.EKFAC)
    assert seen.name == "E"
    difference = seen.got - seen.expected
    torch.testing.assert_close(difference, 0.1 * torch.eye(len(difference)).double())


@pytest.mark.parametrize("kind", PERTURBATIONS[:3])  # the last cuts off none of these
def test_an_error_put_in_on_purpose_is_noticed(kind: Any) -> None:
    trial = Trial(perturbed(subject(EKFAC), kind, 0.1), problem())
    noticed = [ct.LAWS[name] for name in ("P inverse", "recut")]
    for law in noticed[: 1 if kind is PERTURBATIONS[0] else 2]:  # larger stays as much larger
        with pytest.raises(ct.LawBroken):
            list(law.ask(trial))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (EKFAC, "Its preconditioner agrees with the definition."),
        (
            by_solve(ekfac, lambda d: 2 * d),
            "Its preconditioner: it looks as if the implementation adds the damping twice",
        ),
        (KFAC, "Its preconditioner: it looks as if the implementation keeps the products of th"),
    ],
    ids=["right", "twice", "KFAC"],
)
def test_the_diagnosis_knows_it(wrong: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "WRITTEN_OUT_DRAWS", (9,))
    few = [m for i, m in enumerate(ct.MUTANTS.values()) if i % 9 == 0 or m.name in NAMED]
    assert ct.diagnose(subject(wrong, abilities=LINEAR), few).sentence.startswith(says)


NAMED = {"damped-twice", "never-corrected"}
