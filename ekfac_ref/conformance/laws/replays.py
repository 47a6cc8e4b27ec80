r"""Where the bound on rounding is too wide to be of use: rounding as it is.

Summed lengths times bfloat16's roundoff allow for half of a matrix. So on such problems every law
is also asked of the definition itself, fed with a and g that the network computes in bfloat16, some
times over: samples in another order, every number moved by up to one unit in its last place. What
is several times further off than any of these is no rounding.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Factored, Tikhonov
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.changed import in_reverse, jittered
from ekfac_ref.conformance.subjects.definition import Block, Definition
from ekfac_ref.conformance.subjects.placed import put_together
from ekfac_ref.conformance.subjects.subject import OPERATORS, Answer, Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import Content, content
from ekfac_ref.conformance.truth.observation import Observation, Observations, taken_as_exact
from ekfac_ref.conformance.truth.record import Known, record
from ekfac_ref.conformance.truth.tolerance import LIMIT, LawBroken
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.matrix.operators import Dense, EigenKronecker, Kronecker
from ekfac_ref.model.forms import Learned
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.question.problem import Problem

COARSE = (torch.bfloat16,)
TIMES = 4.0  # the largest of the replays
# Of 8 normal numbers, the largest is so small by chance that one more in 20,000 is above TIMES it;
# of 16, one in millions.
REPLAYS = 16
# Roundings, of which replays may by chance have none: of one summand in ten.
LEAST = 0.1
# What MISTAKE is elsewhere: in bfloat16 a hundred roundings would be any matrix at all.
COARSE_MISTAKE = 2 * LIMIT


def above_noise(law: Law) -> Law:
    """The law, its limit no wider than what rounding does on the problem."""
    return replace(law, ask=partial(_ask, law)) if law.measures else law


def _ask(law: Law, trial: Trial) -> Iterator[float]:
    coarse = trial.problem.dtype in COARSE
    for ratio in law.ask(trial):
        # What is below LEAST is below every limit.
        yield _against_noise(law, trial, ratio) if coarse and ratio > LEAST else ratio


def _against_noise(law: Law, trial: Trial, ratio: float) -> float:
    """The ratio in units in which LIMIT is the limit that replays set, if that is the tighter."""
    limit = noise_limit(law, trial)
    against = ratio * max(1.0, LIMIT / limit)
    if against > COARSE_MISTAKE:
        raise LawBroken(
            f"{law.name}: the residual is {ratio:.3g} times rounding, and {REPLAYS} replays of "
            f"the definition in the data's own dtype leave it below {limit / TIMES:.3g} "
            f"(limit {TIMES:g} times that)",
            against,
        )
    return against


def noise_limit(law: Law, trial: Trial) -> float:
    """The largest ratio that may be rounding, on the problem of the trial."""
    subject = trial.subject
    return _limit(law, content(trial.problem), subject.definition, subject.ways)


@lru_cache(maxsize=2048)  # 64 problems, all laws
def _limit(law: Law, known: Content, definition: Definition, ways: tuple[str, ...]) -> float:
    found = [_largest(law.ask(replay)) for replay in _replays(known, definition, ways)]
    return TIMES * max([*found, LEAST / TIMES])


def _largest(ratios: Iterable[float]) -> float:
    largest = 0.0
    try:
        for ratio in ratios:
            largest = max(largest, ratio)
    except LawBroken as error:  # then the bound on rounding decides
        return error.ratio
    return largest


@lru_cache(maxsize=64)
def _replays(known: Content, definition: Definition, ways: tuple[str, ...]) -> list[Trial]:
    """Of subjects that have these ways to be asked, and no others."""
    subjects = (_replayed(definition, number, ways).offering(ways) for number in range(REPLAYS))
    return [Trial(subject, known.problem, watch=False) for subject in subjects]


def _replayed(definition: Definition, number: int, ways: tuple[str, ...]) -> Subject:
    """The definition, of what a moved problem's network computes in the problem's own dtype."""
    operators = [way for way in ways if way in OPERATORS]

    def observed_here(problem: Problem) -> Observations:
        return definition.seen(problem, _observed(content(problem))[number])

    def answers(of: Callable[[Block], Any]) -> Callable[[Problem], Answer]:
        def answer(problem: Problem) -> Answer:
            blocks = definition.blocks(problem, observed_here(problem))
            return {
                name: put_together([of(block) for block in several], several)
                for name, several in blocks.items()
            }

        return answer

    def precondition(
        problem: Problem, gradients: dict[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        answer = inverted(problem)
        return {name: answer[name].solve(V, damping=damping) for name, V in gradients.items()}

    def gradients(problem: Problem) -> dict[str, Tensor]:
        G = oracle.gradients_of_layers(observed_here(problem))
        return {name: torch.stack(of_layer) for name, of_layer in G.items()}

    def product(problem: Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
        of_all = {name: x.double() for name, x in V.items()}
        return oracle.product_with_all(observed_here(problem), of_all)

    how = definition.damping
    kfac = answers(_by_factors if isinstance(how, Factored) else _kronecker)
    inverted = answers(_eigen)
    if "ekfac" not in ways and (operators or not isinstance(how, Tikhonov)):
        inverted = answers(_dense) if operators == ["exact_fisher"] else kfac
    return Subject(
        "the definition, replayed",
        answers(_eigen),
        kfac=kfac,
        exact_fisher=answers(_dense),
        precondition=precondition,
        definition=definition,
        diagonal=lambda problem: {
            name: (G**2).sum(1).mean(0) for name, G in gradients(problem).items()
        },
        per_sample_gradients=gradients,
        fisher_product=product,
    )


def _moved(problem: Problem, number: int) -> Problem:
    """With the last places jittered; every other time in reverse."""
    changed = jittered(problem, number)
    return in_reverse(changed) if number % 2 else changed


@lru_cache(maxsize=4)  # every way to ask, and every vector, asks for the same ones
def _observed(known: Content) -> list[Observations]:
    """What the network computes in the problem's own dtype in every replay, taken for true.

    What one finds out about the model, the others know: only numbers are moved.
    """
    problem, learned = known.problem, Learned()
    with undisturbed(problem.batches):
        replays = [record(_moved(problem, number), Known, learned) for number in range(REPLAYS)]
    return [
        {
            name: [taken_as_exact(one, problem.sharing, problem.dtype) for one in groups]
            for name, groups in records.items()
        }
        for records in replays
    ]


def _eigen(block: Block) -> EigenKronecker:
    seen, dtype = block.seen, block.seen.algebra
    Q_B, Q_A = (eigh(factor)[1] for factor in oracle.factors(seen))
    eigenvalues = oracle.eigenvalues(seen, Q_B, Q_A)
    return EigenKronecker(Q_B.to(dtype), Q_A.to(dtype), eigenvalues.to(dtype))


def _kronecker(block: Block) -> Kronecker:
    B, A = oracle.factors(block.seen)
    return Kronecker(B.to(block.seen.algebra), A.to(block.seen.algebra))


@dataclass(frozen=True, eq=False)
class _Factored:
    """KFAC that solves by factors; with the damping in one place where there is no pi."""

    product: Kronecker
    seen: Observation

    def matvec(self, V: Tensor) -> Tensor:
        return self.product.matvec(V)

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        parts = oracle.parts_of_damping(self.seen, damping)
        if parts is None:
            return V / damping
        B, A = (
            torch.linalg.inv(factor + part * torch.eye(len(factor)).to(factor))
            for factor, part in zip((self.product.B, self.product.A), parts, strict=True)
        )
        return B @ V @ A


def _by_factors(block: Block) -> _Factored:
    return _Factored(_kronecker(block), block.seen)


def _dense(block: Block) -> Dense:
    return Dense(oracle.fisher(block.seen).to(block.seen.algebra), block.seen.shape)
