"""Mistakes that show where a question ends in an exception; the answers to all others are right."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import Around
from ekfac_ref.conformance.subjects.subject import Answer, Ask
from ekfac_ref.model.forward import call
from ekfac_ref.question.problem import Problem


@torch.no_grad()
def _forward(problem: Problem, keep: Callable[[Any], object] = lambda batch: None) -> None:
    """A pass over the data, in which every batch is kept once the model has been called on it."""
    for batch in problem.batches:
        call(problem.model, batch[0])
        keep(batch)


def _around_a_pass(begin: Callable[[Problem], Callable[[], object]]) -> Ask:
    """The right answer, after a pass; ``begin`` returns what is to be done when that has ended."""

    def wrap(ask: Ask) -> Ask:
        def answer(problem: Problem) -> Answer:
            end = begin(problem)
            _forward(problem)
            end()
            return ask(problem)

        return answer

    return Around(wrap).ekfac


def _hook(problem: Problem) -> Callable[[], object]:
    modules = problem.model.modules()
    handles = [module.register_forward_hook(lambda *_: None) for module in modules]

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove


def _freeze(problem: Problem) -> Callable[[], object]:
    frozen = [p for p in problem.model.parameters() if p.requires_grad]

    def all_to(flag: bool) -> None:
        for parameter in frozen:
            parameter.requires_grad_(flag)

    all_to(False)
    return lambda: all_to(True)


def _about(problem: Problem, batches: Sequence[Any], ask: Ask) -> Answer:
    return ask(replace(problem, batches=batches))


class _Kept:
    """Sums over batches that are put to zero when they have been read, and not before a pass."""

    def __init__(self) -> None:
        self._batches: list[Any] = []

    def __call__(self, ask: Ask) -> Ask:
        def answer(problem: Problem) -> Answer:
            _forward(problem, self._batches.append)
            summed, self._batches = self._batches, []
            return _about(problem, summed, ask)

        return answer


def _what_could_be_read(ask: Ask) -> Ask:
    def answer(problem: Problem) -> Answer:
        read: list[Any] = []
        with suppress(OSError, RuntimeError):
            _forward(problem, read.append)
        return _about(problem, read, ask)

    return answer


_after_an_exception = partial(Mutant, laws=("after an exception",))

FAILURES = (
    _after_an_exception(
        name="hooks-left-after-an-exception",
        mistake="removes its hooks at the end of a pass, which an exception does not reach (right: "
        "in a finally)",
        story="A remove() below the loop: captum#340. The model of whoever catches the exception "
        "is hooked for good, and its next pass adds to sums that nobody reads.",
        ekfac=_around_a_pass(_hook),
        only="an exception on the way",
    ),
    _after_an_exception(
        name="frozen-after-an-exception",
        mistake="switches requires_grad on again at the end of a pass, which an exception does not "
        "reach (right: in a finally)",
        story="Parameters frozen to save memory, and the pass runs out of memory all the same: "
        "training goes on and no weight moves.",
        ekfac=_around_a_pass(_freeze),
        only="an exception on the way",
    ),
    _after_an_exception(
        name="half-a-pass-counted-twice",
        mistake="puts its sums to zero once they have been read (right: before every pass)",
        story="Sums kept on an object. After a pass that broke off, the next one adds to what is "
        "there, and the batches that came through count twice.",
        ekfac=Around(_Kept()).ekfac,
        only="an exception on the way, two batches",
    ),
    _after_an_exception(
        name="answer-by-what-could-be-read",
        mistake="catches an exception on the way and answers by the batches before it (right: lets "
        "it through)",
        story="An except around the loop, for a loader that dies now and then: whoever calls it "
        "gets the matrix of less data than were handed in, and cannot know.",
        ekfac=Around(_what_could_be_read).ekfac,
        only="an exception on the way, two batches",
    ),
)
