"""A question that fails on the way leaves nothing behind, and can be asked again."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Convention, Eigen, Factors, adapted
from ekfac_ref.conformance.mutants.beside.failures import FAILURES
from ekfac_ref.conformance.subjects.subject import SAMPLED, WAYS
from ekfac_ref.examples import hooks, notebook, reference
from tests.support.partial_subjects import broken, problem
from tests.support.witnesses import witnesses

Effect = Callable[[ek.Problem], object]
LAW = "after an exception"
WITNESSES = ("two layers 1", "tokens 1", "words 1", "shared weight 1", "mask 1")
IN_EVERY_WAY = ct.MUTANTS["other-signs"].in_every_way  # which is a correct one


def said(subject: Any, question: ek.Problem | None = None) -> str:
    """What the law says; "" if it holds."""
    error = ct.ask(subject, question or problem(), [LAW])[LAW]
    return "" if error is None else str(error)


def forward(question: ek.Problem) -> None:
    for x, _ in question.batches:
        question.model(x)


def after(begin: Effect, end: Effect = lambda question: None) -> Any:
    """The reference's KFAC, after a pass with something around it, which an exception ends."""

    def kfac(question: ek.Problem) -> Any:
        begin(question)
        forward(question)
        end(question)
        return ek.kfac(question)

    return kfac


@pytest.mark.parametrize("name", WITNESSES)
@pytest.mark.parametrize("subject", [reference, IN_EVERY_WAY], ids=lambda subject: subject.name)
def test_it_holds_for_correct_ones(subject: ct.Subject, name: str) -> None:
    assert said(subject, witnesses()[name]) == ""


@pytest.mark.parametrize("way", IN_EVERY_WAY.ways)
def test_it_holds_for_correct_ones_that_have_nothing_else(way: str) -> None:
    assert said(IN_EVERY_WAY.offering([way])) == ""


def test_it_holds_for_examples_and_for_what_is_adapted() -> None:
    blocks = adapted(lambda question: {n: Factors(K.B, K.A) for n, K in ek.kfac(question).items()})
    assert said(ct.Subject("adapted", kfac=blocks)) == ""
    assert said(hooks) == ""
    assert said(notebook, replace(witnesses()["no bias 3"], fisher=ek.Empirical())) == ""


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("hooks-left-after-an-exception", "ekfac left behind module '' hooks: changed"),
        ("answer-by-what-could-be-read", "could not be read, and ekfac answered in silence"),
    ],
)
def test_both_failures_come_after_the_adapter_of_the_kit(name: str, what: str) -> None:
    """It reads the data first, to keep what an implementation might change."""
    ekfac = ct.MUTANTS[name].ekfac

    def answer(question: ek.Problem) -> Any:
        blocks = ekfac(question).items()
        return {layer: Eigen(E.Q_B, E.Q_A, E.eigenvalues) for layer, E in blocks}

    def scale(question: ek.Problem) -> float:
        forward(question)
        return 1.0

    assert what in said(ct.Subject("adapted", adapted(answer, Convention(scale=scale))))


def test_both_failures_reach_every_way_of_the_reference() -> None:
    raised: list[str] = []

    def telling(ask: Any) -> Any:
        def answer(question: ek.Problem) -> Any:
            try:
                return ask(question)
            except Exception as error:
                raised.append(str(error))
                raise

        return answer

    assert said(reference.wrapped(telling)) == ""
    happened = ("a module raised", "batch could not be read", "a module raised")
    assert len(raised) == 4 * 3
    for what, text in zip(4 * happened, raised, strict=True):
        assert what in text


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("hooks-left-after-an-exception", "ekfac left behind module '' hooks: changed; module '0'"),
        ("frozen-after-an-exception", "left behind parameter '0.weight' requires_grad: changed"),
        ("half-a-pass-counted-twice", "ekfac, asked again, has another answer than at first"),
        ("answer-by-what-could-be-read", "could not be read, and ekfac answered in silence, wrong"),
    ],
)
def test_what_it_says_of_mutants(name: str, what: str) -> None:
    assert what in said(ct.MUTANTS[name].subject)
    assert broken(ct.MUTANTS[name].subject) == {LAW}


def test_there_is_a_text_for_every_mutant() -> None:
    assert len({said(mutant.subject) for mutant in FAILURES}) == len(FAILURES) == 4


def test_that_the_adapter_of_the_kit_cannot_go_on_is_no_silence() -> None:
    def scale(question: ek.Problem) -> float:
        forward(question)  # it has the last call of all
        return 1.0

    def answer(question: ek.Problem) -> Any:
        return {name: Factors(K.B, K.A) for name, K in ek.kfac(question).items()}

    assert said(ct.Subject("adapted", kfac=adapted(answer, Convention(scale=scale)))) == ""


def test_one_that_remembers_without_any_exception_is_left_to_another_law() -> None:
    subject = ct.MUTANTS["eigenvectors-of-the-call-before"].subject
    found = ct.ask(subject, witnesses()["two layers 1"], ["no memory", LAW])
    assert found["no memory"] is not None
    assert LAW not in found


def hook(question: ek.Problem) -> None:
    question.model.register_forward_hook(lambda *_: None)


@pytest.mark.parametrize("way", sorted({*WAYS} - {"optimizer", *SAMPLED}))
def test_every_way_is_asked_and_named(way: str) -> None:
    """The hooks are left behind where the pass fails, and removed where it does not."""

    def leaving(ask: Any) -> Any:
        def answer(question: ek.Problem) -> Any:
            handle = question.model.register_forward_hook(lambda *_: None)
            forward(question)
            handle.remove()
            return ask(question)

        return answer

    one = IN_EVERY_WAY.offering([way]).wrapped(leaving)
    assert f"{way} left behind module '' hooks: changed" in said(one)
    assert said(replace(IN_EVERY_WAY, **{way: getattr(one, way)})) == said(one)


LEFT_BEHIND = {
    "module '' values: changed": (lambda q: q.model.eval(), lambda q: q.model.train()),
    "torch rng: changed": (lambda q: torch.rand(1), lambda q: None),
    "grad mode: changed": (
        lambda q: torch.set_grad_enabled(False),
        lambda q: torch.set_grad_enabled(True),
    ),
    "default dtype: changed": (
        lambda q: torch.set_default_dtype(torch.float64),
        lambda q: torch.set_default_dtype(torch.float32),
    ),
    "parameter '0.bias' values: changed": (
        lambda q: q.model[0].bias.data.mul_(2),
        lambda q: q.model[0].bias.data.div_(2),
    ),
    "module '' attributes: changed": (
        lambda q: setattr(q.model, "kept", 1),
        lambda q: delattr(q.model, "kept"),
    ),
}


@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_whatever_is_left_behind_is_noticed_and_no_other_question_suffers(what: str) -> None:
    modes = torch.is_grad_enabled(), torch.get_default_dtype()
    text = said(ct.Subject("leaving", kfac=after(*LEFT_BEHIND[what])))
    assert "the call of a module raised, and kfac left behind" in text
    assert what in text
    assert (torch.is_grad_enabled(), torch.get_default_dtype()) == modes


class Lazy:
    """The KFAC of a layer, made when it is first multiplied with something."""

    def __init__(self, question: ek.Problem, name: str, begin: Effect):
        self.question, self.name, self.begin, self.made = question, name, begin, None

    def matvec(self, V: Tensor) -> Tensor:
        if self.made is None:
            self.made = after(self.begin)(self.question)[self.name]
        return self.made.matvec(V)


@pytest.mark.parametrize(("begin", "right"), [(lambda question: None, True), (hook, False)])
def test_what_is_computed_when_it_is_needed_fails_there(begin: Effect, right: bool) -> None:
    def lazy(question: ek.Problem) -> Any:
        return {name: Lazy(question, name, begin) for name in ("0", "2")}

    assert (said(ct.Subject("lazy", kfac=lazy)) == "") == right


def test_one_that_never_calls_the_model_nor_reads_the_data_is_not_accused() -> None:
    known = ek.kfac(problem())
    assert said(ct.Subject("offline", kfac=lambda question: known)) == ""


def test_a_right_answer_is_right_whatever_was_raised_on_the_way() -> None:
    known = ek.kfac(problem())

    def robust(question: ek.Problem) -> Any:
        with suppress(OSError, RuntimeError):
            forward(question)
        return known

    assert said(ct.Subject("robust", kfac=robust)) == ""


def test_no_answer_in_silence_is_as_wrong_as_another_answer() -> None:
    def nothing(question: ek.Problem) -> Any:
        try:
            forward(question)
        except (OSError, RuntimeError):
            return {}
        return ek.kfac(question)

    assert "kfac answered in silence, wrongly" in said(ct.Subject("nothing", kfac=nothing))


def test_one_that_cannot_be_asked_again_is_told_from_one_that_refuses() -> None:
    class Busy:
        """It will not begin while a pass is under way, and one that has failed is so for ever."""

        def __init__(self) -> None:
            self.busy = False

        def __call__(self, question: ek.Problem) -> Any:
            if self.busy:
                raise KeyError("a pass is under way")
            self.busy = True
            forward(question)
            self.busy = False
            return ek.kfac(question)

    assert "kfac, asked again, raised KeyError: 'a pass is" in said(ct.Subject("busy", kfac=Busy()))

    def refusing(question: ek.Problem) -> Any:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        said(ct.Subject("refusing", kfac=refusing))


def test_what_ends_the_process_comes_through() -> None:
    def interrupted(question: ek.Problem) -> Any:
        try:
            forward(question)
        except RuntimeError:
            raise KeyboardInterrupt from None
        return ek.kfac(question)

    with pytest.raises(KeyboardInterrupt):
        said(ct.Subject("interrupted", kfac=interrupted))


def test_training_is_not_asked() -> None:
    def train(question: ek.Problem, settings: Any) -> Iterator[None]:
        raise AssertionError
        yield

    assert said(ct.Subject("both", kfac=ek.kfac, optimizer=train)) == ""
    alone = ct.Subject("alone", optimizer=train)
    assert ct.ask(alone, problem(), [LAW]) == {}
