"""A question, what the subject or a mutant answers, and how far two answers are apart."""

from dataclasses import dataclass
from functools import cached_property
from math import inf

import torch
from torch import Tensor

from ekfac_ref.conformance.diagnosis.comparable import Precision, Question
from ekfac_ref.conformance.subjects.subject import Ask, Subject
from ekfac_ref.conformance.subjects.trial import Trial

NOISE = 1e4  # roundoffs of the right matrix; what is smaller is nothing


@dataclass(frozen=True, eq=False)
class Comparison:
    """A question and the subject's answer."""

    question: Question
    given: list[Tensor]

    @cached_property
    def misshapen(self) -> float:
        """How far the answer is off when every layer may have a scalar of its own."""
        return max(map(sine, self.given, self.question.correct))

    @cached_property
    def wrong(self) -> float:
        """How far it is off as it stands."""
        return max(map(relative, self.given, self.question.correct))


def matrices(ask: Ask, question: Question) -> list[Tensor] | None:
    """The answer's matrices, None where there is no answer."""
    trial = Trial(Subject("", ask), question.problem, question.seen)
    try:
        answer = [trial.cases[i].E.matrix for i in question.rows]
    except Exception:  # whatever went wrong, there is nothing to compare
        return None
    dtype = question.problem.dtype
    pairs = zip(answer, question.correct, strict=True)
    return [_without_noise(E, right, dtype) for E, right in pairs]


def _without_noise(E: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """A mistake can cancel a matrix to rounding, and rounding is like nobody else's."""
    return E if E.norm() > NOISE * torch.finfo(dtype).eps * right.norm() else torch.zeros_like(E)


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


def differing(answers: list[list[Tensor]], questions: list[Question], precision: Precision) -> int:
    """On how many problems these matrices are not the definition's."""
    return sum(
        any(relative(x, y) > precision.differs for x, y in zip(answer, q.correct, strict=True))
        for answer, q in zip(answers, questions, strict=True)
    )
