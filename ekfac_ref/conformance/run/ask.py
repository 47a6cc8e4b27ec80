"""Laws asked of a subject on a problem of one's own."""

from collections.abc import Iterable
from typing import Any

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.subjects.drawn import check_not_drawn
from ekfac_ref.conformance.subjects.subject import as_subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.room import check_written_down
from ekfac_ref.conformance.truth.tolerance import LIMIT, Doubt, LawBroken
from ekfac_ref.errors import ProblemError
from ekfac_ref.question.problem import Problem


def ask(
    thing: Any, problem: Problem, laws: Iterable[str] | None = None
) -> dict[str, LawBroken | Doubt | None]:
    """What the laws say of the subject's answer to this problem.

    Args:
        thing: a function from a problem to {layer: operator}, an object with a method ``ekfac`` or
            another of ``WAYS`` (``subject.py``), or a Subject.
        problem: any with layers of up to a few thousand parameters, whose matrices are written
            down; ``check_on`` is for larger ones. The subject gets copies of model and data.
        laws: names, as ``LAWS`` has them; None stands for all.

    Returns:
        {law: None where it holds, LawBroken where it does not, Doubt where the residual may be
        either}. A law that has nothing to ask here is left out: the answer does not offer what it
        needs, or the problem is not of its kind.

    Raises:
        BadAnswer: the answer is none that laws could be asked of.
        ProblemError: there is no such law; or the matrices take more memory than there is; or
            labels are ``Sampled``, for which there is no right answer. What the subject itself
            raises comes through.
    """
    names = list(LAWS) if laws is None else list(laws)
    if unknown := [name for name in names if name not in LAWS]:
        raise ProblemError(f"laws: there are none called {unknown}; choose among {list(LAWS)}.")
    check_written_down(problem)
    subject = as_subject(thing, "subject")
    if names:  # by no law, nobody is held to anything
        check_not_drawn(subject, problem)
    trial = Trial(subject, problem)
    found: dict[str, LawBroken | Doubt | None] = {}
    for name in names:
        try:
            if ratios := list(LAWS[name].ask(trial)):
                found[name] = Doubt(max(ratios)) if max(ratios) > LIMIT else None
        except LawBroken as broken:
            found[name] = broken
    return found
