r"""Where the bound on rounding is too wide to be of use: rounding as it is.

Summed lengths times bfloat16's roundoff allow for half of a matrix. So on such problems every law
is also asked of the definition itself, fed with a and g that the network computes in bfloat16, some
times over: samples in another order, every number moved by up to one unit in its last place. What
is several times further off than any of these is no rounding.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.changed import in_reverse
from ekfac_ref.conformance.subjects.definition import Block, Definition
from ekfac_ref.conformance.subjects.placed import put_together
from ekfac_ref.conformance.subjects.subject import Answer, Subject
from ekfac_ref.conformance.subjects.trial import Trial, copied
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import digest
from ekfac_ref.conformance.truth.observation import Observation, look
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.matrix.operators import Dense, EigenKronecker, Kronecker
from ekfac_ref.model.random_state import generators, untouched
from ekfac_ref.question.problem import Problem

COARSE = (torch.bfloat16,)
REPLAYS = 8
TIMES = 4.0  # the largest of the replays
# Roundings, of which replays may by chance have none: of one summand in ten.
LEAST = 0.1
CAPACITY = 64

Of = Callable[[Block], Any]


def above_noise(law: Law) -> Law:
    """The law, its limit no wider than what rounding does on the problem."""
    return replace(law, ask=partial(_ask, law)) if law.measures else law


def _ask(law: Law, trial: Trial) -> Iterator[float]:
    coarse = trial.problem.dtype in COARSE
    for ratio in law.ask(trial):
        # What is below LEAST is below every limit.
        if coarse and ratio > LEAST and ratio > (limit := noise_limit(law, trial)):
            raise LawBroken(
                f"{law.name}: the residual is {ratio:.3g} times rounding, and {REPLAYS} replays of "
                f"the definition in the data's own dtype leave it below {limit / TIMES:.3g} "
                f"(limit {TIMES:g} times that)",
                ratio,
            )
        yield ratio


def noise_limit(law: Law, trial: Trial) -> float:
    """The largest ratio that may be rounding, on the problem of the trial."""
    replays = _replays(trial)
    if law.name not in replays.limits:
        found = [_largest(law.ask(replay)) for replay in replays.trials]
        replays.limits[law.name] = TIMES * max([*found, LEAST / TIMES])
    return replays.limits[law.name]


def _largest(ratios: Iterator[float] | Iterable[float]) -> float:
    largest = 0.0
    try:
        for ratio in ratios:
            largest = max(largest, ratio)
    except LawBroken as error:  # then the bound on rounding decides
        return error.ratio
    return largest


@dataclass(frozen=True)
class _Replays:
    """Of one problem; and the limits that have been asked for, by the law's name."""

    trials: list[Trial]
    limits: dict[str, float] = field(default_factory=dict)


_known: OrderedDict[tuple[bytes, Definition], _Replays] = OrderedDict()


def _replays(trial: Trial) -> _Replays:
    key = digest(trial.problem), trial.subject.definition
    if key not in _known:
        subjects = (_replayed(trial.subject.definition, number) for number in range(REPLAYS))
        _known[key] = _Replays([Trial(subject, trial.problem) for subject in subjects])
        if len(_known) > CAPACITY:
            _known.popitem(last=False)
    return _known[key]


def _replayed(definition: Definition, number: int) -> Subject:
    """The definition, of what a moved problem's network computes in the problem's own dtype."""

    def answers(of: Of) -> Callable[[Problem], Answer]:
        def answer(problem: Problem) -> Answer:
            blocks = definition.blocks(problem, _seen(_moved(problem, number)))
            return {
                name: put_together([of(block) for block in several], several)
                for name, several in blocks.items()
            }

        return answer

    def precondition(
        problem: Problem, gradients: dict[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        answer = answers(_eigen)(problem)
        return {name: answer[name].solve(V, damping=damping) for name, V in gradients.items()}

    return Subject(
        "the definition, replayed",
        answers(_eigen),
        kfac=answers(_kronecker),
        exact_fisher=answers(_dense),
        precondition=precondition,
        definition=definition,
    )


def _moved(problem: Problem, number: int) -> Problem:
    """Every number up or down by one in its last place, or not; every other time in reverse."""
    generator = torch.Generator().manual_seed(number)

    def moved(x: Tensor) -> Tensor:
        if not x.dtype.is_floating_point:
            return x
        direction = torch.randint(-1, 2, x.shape, generator=generator)
        return (x.double() * (1 + direction * torch.finfo(x.dtype).eps)).to(x.dtype)

    changed = copied(problem)
    with torch.no_grad():
        for parameter in changed.model.parameters():
            parameter.copy_(moved(parameter))
    batches = [(tree_map(moved, x), y) for x, y in changed.batches]
    changed = replace(changed, batches=batches)
    return in_reverse(changed) if number % 2 else changed


def _seen(problem: Problem) -> dict[str, list[Observation]]:
    dtype = problem.dtype
    with torch.inference_mode(False), torch.no_grad(), untouched(*generators(problem.batches)):
        seen = look(problem, dtype)
    return {name: [_in_float64(one) for one in groups] for name, groups in seen.items()}


def _in_float64(seen: Observation) -> Observation:
    a, g = [a.double() for a in seen.a], [g.double() for g in seen.g]
    return replace(
        seen,
        a=a,
        g=g,
        G=[torch.einsum("cto,ti->coi", g_n, a_n) for a_n, g_n in zip(a, g, strict=True)],
        wobble_a=[a_n.new_zeros(a_n.shape[:1]) for a_n in a],
        wobble_g=[g_n.new_zeros(g_n.shape[:2]) for g_n in g],
    )


def _eigen(block: Block) -> EigenKronecker:
    seen, dtype = block.seen, block.seen.algebra
    Q_B, Q_A = (torch.linalg.eigh(factor)[1] for factor in oracle.factors(seen))
    eigenvalues = oracle.eigenvalues(seen, Q_B, Q_A)
    return EigenKronecker(Q_B.to(dtype), Q_A.to(dtype), eigenvalues.to(dtype))


def _kronecker(block: Block) -> Kronecker:
    B, A = oracle.factors(block.seen)
    return Kronecker(B.to(block.seen.algebra), A.to(block.seen.algebra))


def _dense(block: Block) -> Dense:
    d_out, d_in = block.seen.G[0].shape[1:]
    return Dense(oracle.fisher(block.seen).to(block.seen.algebra), (d_out, d_in))
