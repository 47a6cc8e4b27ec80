"""Laws of manners: what an answer leaves behind, what it refuses, how it preconditions."""

from collections.abc import Callable, Iterator

import torch

from ekfac_ref.conformance.laws.law import DEFINITION, Lane, Law, law_of_a_trial
from ekfac_ref.conformance.problems import changed
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.matrices import Unread
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.subjects.trial import Case, Solved, Trial, copied
from ekfac_ref.conformance.truth.tolerance import (
    LawBroken,
    bounded,
    fisher_scale,
    length,
    own_scale,
)
from ekfac_ref.question.problem import Problem


@law_of_a_trial("no memory", DEFINITION, measures=False)
def no_memory(trial: Trial) -> Iterator[float]:
    """the same problem again, after another one: the same bits"""
    trial.about(changed.in_reverse(trial.problem)).asked(trial.subject.ekfac, "ekfac")
    for one, other in zip(trial.cases, trial.about(trial.problem).cases, strict=True):
        if not torch.equal(one.E.matrix, other.E.matrix):
            raise LawBroken(f"no memory: two answers for layer {one.layer!r} differ")
        yield 0.0


@law_of_a_trial("leaves alone", "a question changes nothing", measures=False)
def leaves_alone(trial: Trial) -> Iterator[float]:
    """model, data, gradients, flags, buffers, hooks and random states are as they were before"""
    _ = trial.cases, trial.preconditioned  # all that can be asked about a problem
    if trial.changes:
        raise LawBroken(f"leaves alone: {'; '.join(trial.changes[:3])}")
    yield 0.0


def _refuses(ask: Ask, problem: Problem) -> bool:
    """Whether the subject itself raises an exception; that of its adapter is the kit's."""
    try:
        ask(problem)
    except Unread:
        return False
    except Exception:
        return True
    return False


def _refused(name: str, statement: str, change: Callable[[Problem], Problem]) -> Law:
    """Whatever cannot be answered raises an exception."""

    @law_of_a_trial(name, "a wrong number is worse than none", measures=False, statement=statement)
    def law(trial: Trial) -> Iterator[float]:
        subject = trial.subject
        for method, ask in (
            ("ekfac", subject.ekfac),
            ("kfac", subject.kfac),
            ("exact_fisher", subject.exact_fisher),
        ):
            if ask is not None and not _refuses(ask, copied(change(trial.problem))):
                raise LawBroken(f"refused: {method} answered in silence")
        yield 0.0

    return law


REFUSALS = (
    _refused("nan", "NaN in the data raises an exception", changed.with_nan),
    _refused(
        "unknown layer",
        "the name of a layer that the model does not have raises an exception",
        changed.with_an_unknown_layer,
    ),
    _refused(
        "batch norm",
        "BatchNorm in train mode raises an exception: there are no per-sample gradients",
        changed.with_batch_norm,
    ),
)


@law_of_a_trial("precondition", "by definition, E as the subject's own", Lane.PRECONDITION)
def preconditions(trial: Trial) -> Iterator[float]:
    """(E + d I) x = v for x = precondition(v), d = 1e-06 and 1, and the same bits twice"""
    if trial.subject.precondition is None:
        return
    cases = iter(trial.cases)
    for name, blocks in trial.blocks.items():
        pairs = [(block, next(cases)) for block in blocks]
        for solved in trial.preconditioned[name]:
            yield _solves(pairs, solved)


def _solves(blocks: list[tuple[Block, Case]], solved: Solved) -> float:
    """A backward error of the layer as a whole: it may have been solved as one system."""
    if not torch.equal(solved.x, solved.again):
        raise LawBroken("precondition: the same question twice has two answers")
    residual = solved.damping * solved.x - solved.V
    for block, case in blocks:
        block.of(residual).add_(case.E.matvec(block.of(solved.x)))
    seen = [block.seen for block, _ in blocks]
    size = max(own_scale(case.E.matrix, fisher_scale(case.seen)) for _, case in blocks)
    scale = (size + solved.damping) * float(solved.x.norm())
    law = f"(E + {solved.damping:g} I) precondition(V) = V"
    return bounded(law, residual, scale, seen[0], max(map(length, seen)))
