"""The law of a question that fails on the way: nothing is left behind, and it can be asked again.

A call of a module raises, as where memory runs out: the first one, when hooks and flags have been
set, or the last one of a question that is answered, when sums are nearly full. Or the last batch
cannot be read, as of a loader that dies, when such a question reads it for the last time. What
fails once goes on to fail until the question has ended: to try again within it is of no use.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from math import inf
from typing import Any, Protocol, runtime_checkable

import torch

from ekfac_ref.conformance.laws.law import Lane, law_of_a_trial
from ekfac_ref.conformance.problems.changed import copied
from ekfac_ref.conformance.subjects.matrices import BadAnswer, Unread
from ekfac_ref.conformance.subjects.preconditioned import Vectors, at_random
from ekfac_ref.conformance.subjects.snapshot import differences, own_states, snapshot
from ekfac_ref.conformance.subjects.subject import OPERATORS, SAMPLED
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.errors import first_line
from ekfac_ref.question.problem import Problem

_ON_PURPOSE = "by the law 'after an exception', which asks whether things are left as they were"


@runtime_checkable
class _Failure(Protocol):
    """What makes a question fail.

    Attributes:
        says: what happens, in a sentence.
        number: the first time that it happens; at inf it is only counted how often it might have.
        count: how often it might have.
    """

    says: str
    number: float
    count: int

    def within(self, problem: Problem) -> AbstractContextManager[Problem]:
        """The problem, of the same model, about which questions fail as long as this lasts."""


class _LastBatch:
    """The last batch cannot be read."""

    says = "the last batch could not be read"

    def __init__(self, number: float = inf) -> None:
        self.number, self.count = number, 0

    @contextmanager
    def within(self, problem: Problem) -> Iterator[Problem]:
        """The problem with batches of which that is true."""
        yield replace(problem, batches=_Batches(self, problem.batches))


class _Batches(list[Any]):
    """Batches as the kit hands them over, which are lists; iterated, they may come to an end."""

    def __init__(self, failure: _LastBatch, batches: Iterable[Any]) -> None:
        super().__init__(batches)
        self._failure = failure

    def __iter__(self) -> Iterator[Any]:
        yield from self[:-1]  # which is a list of the ordinary kind
        _may_happen(self._failure, OSError)
        yield self[-1]


class _Call:
    """A call of a module raises: a forward pre-hook of all of them."""

    says = "the call of a module raised"

    def __init__(self, number: float = inf) -> None:
        self.number, self.count = number, 0

    def __call__(self, module: Any, inputs: Any) -> None:
        _may_happen(self, RuntimeError)

    def __deepcopy__(self, memo: Any) -> "_Call":
        return self  # one count, whether it is the model that is called or a copy of it

    @contextmanager
    def within(self, problem: Problem) -> Iterator[Problem]:
        """The problem, with the hook on its model."""
        modules = problem.model.modules()
        handles = [module.register_forward_pre_hook(self) for module in modules]
        try:
            yield problem
        finally:
            for handle in handles:
                handle.remove()


def _may_happen(failure: _Failure, kind: type[Exception]) -> None:
    failure.count += 1
    if _has_happened(failure):
        raise kind(f"{failure.says}: {_ON_PURPOSE}")


def _has_happened(failure: _Failure) -> bool:
    return failure.count >= failure.number


@law_of_a_trial(
    "after an exception", "a question changes nothing, however it ends", Lane.SAME, measures=False
)
def after_an_exception(trial: Trial) -> Iterator[float]:
    """a question that ends in an exception changes nothing, and asked again it has the same bits"""
    for way in trial.subject.ways:
        # The steps that it has taken when it fails are meant to stay; labels are drawn anew.
        if way in ("optimizer", *SAMPLED):
            continue
        right = _answer(trial, way)
        read, called = _LastBatch(), _Call()
        with read.within(copied(trial.problem)) as counted, called.within(counted):
            if not _same(_asked_of(counted, trial, way), right):
                continue  # that it remembers is for another law to say
        problem = copied(trial.problem)
        for failure in _failures(read.count, called.count):
            if not _ends(failure, trial, way, problem, right):
                problem = copied(trial.problem)
        try:
            again = _asked_of(problem, trial, way)
        except Exception as error:
            raise LawBroken(_said(f"{way}, asked again, raised {first_line(error)}")) from None
        if not _same(again, right):
            raise LawBroken(_said(f"{way}, asked again, has another answer than at first"))
        yield 0.0


def _failures(reads: int, calls: int) -> Iterator[_Failure]:
    """Those there can be, of a question that reads the data and calls modules so many times."""
    if calls:
        yield _Call(1)
    if reads:
        yield _LastBatch(reads)
    if calls > 1:
        yield _Call(calls)


def _ends(failure: _Failure, trial: Trial, way: str, problem: Problem, right: Vectors) -> bool:
    """Whether the question ends in an exception. An answer all the same has to be the right one."""
    modes, answer = _modes(), None
    with own_states():
        before = snapshot(problem.model, problem.batches)
        try:
            with failure.within(problem) as failing:
                answer = _answer(_about(failing, trial, way), way)
        except BadAnswer as error:  # the kit's own adapter, which reads the data, may have failed
            answer = None if isinstance(error, Unread) else {}
        except Exception:
            pass  # as it should be
        lines = differences(before, snapshot(problem.model, problem.batches))
    torch.set_grad_enabled(modes[0])  # what follows is not to suffer from what is left behind
    torch.set_default_dtype(modes[1])
    if answer is None and lines:
        raise LawBroken(_said(f"{failure.says}, and {way} left behind {'; '.join(lines[:3])}"))
    if answer is not None and _has_happened(failure) and not _same(answer, right):
        raise LawBroken(_said(f"{failure.says}, and {way} answered in silence, wrongly"))
    return answer is None


def _modes() -> tuple[bool, torch.dtype]:
    return torch.is_grad_enabled(), torch.get_default_dtype()


def _said(what: str) -> str:
    return f"after an exception: {what}"


def _about(problem: Problem, trial: Trial, way: str) -> Trial:
    """One in which the subject is asked in this way alone, and about this very problem, no copy."""
    subject = trial.subject.offering([way]).wrapped(lambda ask: lambda copy_of_it: ask(problem))
    return Trial(subject, trial.problem, trial.seen, watch=False, own=False)


def _asked_of(problem: Problem, trial: Trial, way: str) -> Vectors:
    """The answer, to this very problem."""
    with own_states():
        return _answer(_about(problem, trial, way), way)


def _answer(trial: Trial, way: str) -> Vectors:
    """{layer or block: all numbers of the answer}, in float64."""
    if way in OPERATORS:
        named = [(case.layer, M) for case in trial.cases for M in case.operators]
        return {name: M.matrix for name, M in named if M.way == way}
    if way == "precondition":
        return trial.solved(at_random(trial.blocks, seed=5), 1.0)
    if way == "fisher_product":
        return trial.fisher_product(at_random(trial.blocks, seed=5))
    return trial.diagonals if way == "diagonal" else trial.sample_gradients


def _same(one: Vectors, other: Vectors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(x, other[n]) for n, x in one.items())
