"""Which argument of a problem a subject does not use: what everybody's first adapter forgets.

The kit changes one thing in a problem at a time, so that every right answer changes with it. If the
subject's does not, it has not read that thing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice

from torch import Tensor

from ekfac_ref.conformance.diagnosis.comparable import Precision, Question, question_about
from ekfac_ref.conformance.diagnosis.comparison import compared, sine
from ekfac_ref.conformance.diagnosis.quantity import OF_EKFAC, Quantity
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.changed import other_labels
from ekfac_ref.conformance.problems.draw import families_for, of_one_family
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.model.forward import call
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem

TRIED = 8  # problems of each family; one is looked for on which the argument makes a difference
TELLING = 4  # such problems, at most, on all of which but one it makes none to the subject
DIFFERENT = 0.05  # relative; by so much, at least, the right answer changes
SAME = 1e-3  # and by no more than this an answer that has not read what was changed

# A problem otherwise, in every way that the abilities allow; nothing where there is none.
Otherwise = Callable[[Problem, Abilities], Iterator[Problem]]


def _nothing(problem: Problem) -> object:
    return None


@dataclass(frozen=True)
class Argument:
    """One thing that a problem says, and that an answer may leave out of account.

    Attributes:
        name: as an adapter reads it.
        change: to something else, the same network and data otherwise.
        advice: what to do.
        value: what stands there, where that can be told in a word.
    """

    name: str
    change: Otherwise
    advice: str
    value: Callable[[Problem], object] = _nothing


def _likelihoods(problem: Problem, abilities: Abilities) -> Iterator[Problem]:
    for kind in abilities.likelihoods:
        if kind in _LIKELIHOODS and not isinstance(problem.likelihood, kind):
            batches = [
                (x, _LIKELIHOODS[kind][1](call(problem.model, x).detach()))
                for x, _ in problem.batches
            ]
            yield replace(problem, likelihood=_LIKELIHOODS[kind][0], batches=batches)


def _fishers(problem: Problem, abilities: Abilities) -> Iterator[Problem]:
    for kind in abilities.fishers:
        if not isinstance(problem.fisher, kind):
            yield replace(problem, fisher=kind())


def _sharings(problem: Problem, abilities: Abilities) -> Iterator[Problem]:
    for kind in abilities.sharings:
        if not isinstance(problem.sharing, kind):
            yield replace(problem, sharing=kind())


def _labels(problem: Problem, abilities: Abilities) -> Iterator[Problem]:
    if not isinstance(problem.fisher, Exact):  # which does not read them
        yield other_labels(problem)


def _no_mask(problem: Problem, abilities: Abilities) -> Iterator[Problem]:
    if problem.mask is not None:
        yield replace(problem, mask=None)


def _one_batch(number: int) -> Otherwise:
    """One batch of those that there are."""

    def change(problem: Problem, abilities: Abilities) -> Iterator[Problem]:
        batches = list(problem.batches)
        if len(batches) > 1:
            yield replace(problem, batches=[batches[number]])

    return change


# Of each kind one, and legal labels for outputs f.
_LIKELIHOODS: dict[type, tuple[Likelihood, Callable[[Tensor], Tensor]]] = {
    Categorical: (Categorical(), lambda f: 0 * f[..., 0].long()),
    **{kind: (kind(), lambda f: 0 * f) for kind in (Gaussian, Bernoulli, Poisson)},
}
_ARGUMENTS = (
    Argument(
        "problem.likelihood",
        _likelihoods,
        "take the loss from it, sum_loss(problem.likelihood) is one, or declare the one that you "
        "have in Abilities(likelihoods=...)",
        lambda problem: problem.likelihood,
    ),
    Argument(
        "problem.fisher",
        _fishers,
        "Exact() is the mean over the model's own labels, Empirical() takes those of the data; "
        "declare the one that you have in Abilities(fishers=...)",
        lambda problem: problem.fisher,
    ),
    Argument(
        "problem.sharing",
        _sharings,
        "declare the one that you have in Abilities(sharings=...)",
        lambda problem: problem.sharing,
    ),
    Argument("the labels", _labels, "the loss is to be taken at them under Empirical()"),
    Argument(
        "problem.mask",
        _no_mask,
        "leave out what it does not count, or declare Abilities(masks=False)",
    ),
    Argument(
        "batches behind the first", _one_batch(0), "pool over all of problem.batches, uneven ones"
    ),
    Argument(
        "batches before the last", _one_batch(-1), "pool over all of problem.batches, uneven ones"
    ),
)


def unused(
    subject: Subject, precision: Precision, seed: int = 0, quantity: Quantity = OF_EKFAC
) -> list[str]:
    """A sentence for every argument of a problem that makes no difference to the subject.

    ``seed`` is of the problems that are changed. Of an argument to which no right answer is
    sensitive on any of them, nothing is said.
    """
    abilities = replace(subject.abilities, dtypes=(precision.dtype,))
    problems = [
        problem
        for family in families_for(abilities)
        for problem in of_one_family(abilities, family, TRIED, seed)
    ]

    def question(problem: Problem) -> Question:
        return question_about(problem, precision, subject.definition, quantity)

    @cache  # for every argument
    def unchanged(number: int) -> Question:
        return question(problems[number])

    said = []
    for argument in _ARGUMENTS:
        pairs = (
            (unchanged(number), question(changed))
            for number, problem in enumerate(problems)
            for changed in argument.change(problem, abilities)
        )
        telling = islice((pair for pair in pairs if _moves(*pair)), TELLING)
        sentences = [_about(argument, subject, *pair) for pair in telling]
        unread = [sentence for sentence in sentences if sentence]
        if unread and 4 * len(unread) >= 3 * len(sentences):  # one may be a matrix of rounding
            said.append(unread[0])
    return said


def _moves(before: Question, after: Question) -> bool:
    """Whether every right answer changes, and not by a scalar alone."""
    return _apart(before, before.correct, after, after.correct) > DIFFERENT


def _about(argument: Argument, subject: Subject, before: Question, after: Question) -> str:
    one, other = compared(subject, before), compared(subject, after)
    if one is None or other is None or _apart(before, one.given, after, other.given) > SAME:
        return ""
    always = [
        f", it is always that of {type(value).__name__}()"
        for answer in (one, other)
        if not answer.is_odd and (value := argument.value(answer.question.problem)) is not None
    ]
    name = argument.name
    return f"The answer does not change with {name}{''.join(always[:1])}: {argument.advice}."


def _apart(one: Question, ones: list[Tensor], other: Question, others: list[Tensor]) -> float:
    """How far two lists of matrices are apart, where both questions compare them."""
    right = dict(zip(other.rows, others, strict=True))
    pairs = [(x, right[row]) for row, x in zip(one.rows, ones, strict=True) if row in right]
    return max((sine(x, y) for x, y in pairs), default=0.0)
