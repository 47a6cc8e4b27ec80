"""A question, what the subject or a mutant answers, and how far two answers are apart."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import inf

import torch
from torch import Tensor

from ekfac_ref.conformance.diagnosis.comparable import Question
from ekfac_ref.conformance.mutants.eigenpairs import turned
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.matrices import as_expected
from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.conformance.subjects.trial import Trial

# In roundings of the right matrix, what is no more than a mistake's terms leave where they cancel.
# It is below what ``differs`` in either precision.
NOISE = 1e4
KEPT = 2048  # answers of mutants, some kilobytes each


@dataclass(frozen=True, eq=False)
class Comparison:
    """A question, and what the subject or a mutant answers to it.

    Attributes:
        question: which layers are compared, and what is right.
        given: the matrix answered for each of them, in float64.
    """

    question: Question
    given: list[Tensor]

    @cached_property
    def misshapen(self) -> float:
        """How far the answer is off when every layer may have a scalar of its own."""
        return max(map(sine, self.given, self.question.correct))

    @cached_property
    def wrong(self) -> float:
        """How far the answer is off as it stands."""
        return max(map(relative, self.given, self.question.correct))

    @property
    def is_odd(self) -> bool:
        """Whether the answer differs from the definition, whatever its scalars."""
        return self.misshapen > self.question.precision.differs

    @property
    def is_wrong(self) -> bool:
        """Whether the answer differs from the definition as it stands."""
        return self.wrong > self.question.precision.differs


class Unguarded(Trial):
    """A trial of a subject that is known to read its problem and to change nothing, or a random
    state: it gets the problem itself.
    """

    def asked(self, ask: Ask, method: str) -> Answer:
        """An answer with the right layers in it."""
        return as_expected(ask(self.problem), method, self.seen, self.subject.definition)


def compared(
    subject: Subject, question: Question, on_trial: type[Trial] = Trial
) -> Comparison | None:
    """The question with what the subject answers, None where there is no answer."""
    quantity = question.quantity
    way = quantity.way if quantity.way in subject.ways else quantity.of_a_mutant
    if way not in subject.ways:
        return None
    one = replace(subject.offering([way]), definition=Definition())  # as rows are counted
    trial = on_trial(one, question.problem, question.seen, watch=False)
    try:
        answer = quantity.given(trial, question.rows)
        if len(answer) < len(question.rows) or any(not given.numel() for given in answer):
            return None
    except Exception:  # whatever went wrong, there is nothing to compare
        return None
    # A mistake can cancel a matrix to rounding, and rounding is like nobody else's.
    noise = NOISE * torch.finfo(question.problem.dtype).eps
    pairs = zip(answer, question.correct, strict=True)
    return Comparison(
        question, [E if E.norm() > noise * right.norm() else 0 * E for E, right in pairs]
    )


@lru_cache(maxsize=KEPT)
def answer_of(mutant: Mutant, question: Question) -> Comparison | None:
    """Asked in the way in which it shows what is compared; looked up where it was asked before.

    By the mutant, who equals another with the same functions, and the question, which equals none:
    a mutant begins anew whenever it is asked, and a question does not change.
    """
    quantity = question.quantity
    subject, way = mutant.in_every_way, quantity.of_a_mutant
    if way == "ekfac" and quantity.inverted is not None:
        subject = replace(subject, ekfac=mutant.inverting(quantity.inverted))
    asked = subject.offering([way]) if way in subject.ways else subject
    with turned({}):
        return compared_with(mutant, asked, question)


def compared_with(mutant: Mutant, subject: Subject, question: Question) -> Comparison | None:
    """The question with what the mutant, made a subject, answers."""
    return compared(subject, question, Unguarded if mutant.only_reads else Trial)


def sine(x: Tensor, y: Tensor) -> float:
    """The least relative error of any multiple of y: the sine of the angle to it."""
    if not x.any() or not y.any():
        return 0.0 if not x.any() and not y.any() else 1.0
    x, y = x / x.norm(), y / y.norm()
    return float((x - (x * y).sum() * y).norm())


def relative(x: Tensor, y: Tensor) -> float:
    """The error of x, in the Frobenius norm, over the size of y."""
    error, size = float((x - y).norm()), float(y.norm())
    return error / size if size else (inf if error else 0.0)
