"""Laws of manners: what an answer leaves behind, what it refuses, how it preconditions."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.laws.law import DEFINITION, Lane, Law, each, law_of_a_trial
from ekfac_ref.conformance.laws.of_two_answers import operators_of_both
from ekfac_ref.conformance.laws.training.step import settings_for
from ekfac_ref.conformance.laws.whole_layers import solves_layer
from ekfac_ref.conformance.problems import changed
from ekfac_ref.conformance.subjects.attention import packed
from ekfac_ref.conformance.subjects.matrices import Unread, extent
from ekfac_ref.conformance.subjects.preconditioned import Vectors, at_random
from ekfac_ref.conformance.subjects.subject import Answer, Ask
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.columns import Sampled
from ekfac_ref.question.problem import Problem


@law_of_a_trial("no memory", DEFINITION, Lane.SAME, measures=False)
def no_memory(trial: Trial) -> Iterator[float]:
    """the same problem again, after another one: the same bits"""
    another, later = trial.about(changed.in_reverse(trial.problem)), trial.about(trial.problem)
    subject, V = trial.subject, at_random(trial.blocks, seed=5)
    ways: dict[str, Callable[[Trial], Vectors]] = {}
    if subject.diagonal is not None:
        ways["diagonal"] = lambda one: one.diagonals
    if subject.per_sample_gradients is not None:  # of another order, they have the same diagonal
        ways["per_sample_gradients"] = lambda one: one.sample_gradients
    if subject.precondition is not None:
        ways["precondition"] = lambda one: one.solved(V, 1.0)
    if subject.fisher_product is not None:
        ways["fisher_product"] = lambda one: one.fisher_product(V)
    vectors = (_same_bits(way, ask, (trial, another, later)) for way, ask in ways.items())
    return each([_same_matrices(trial, another, later), *vectors])


def _same_matrices(trial: Trial, another: Trial, later: Trial) -> Iterator[float]:
    for way, ask in trial.subject.operators.items():
        another.asked(ask, way)
    for one, other in operators_of_both(trial, later):
        if not torch.equal(one.matrix, other.matrix):
            layer = one.own.layer
            raise LawBroken(f"no memory: two answers of {one.way} for layer {layer!r} differ")
        yield 0.0


def _same_bits(
    way: str, ask: Callable[[Trial], Vectors], trials: tuple[Trial, ...]
) -> Iterator[float]:
    """Before another problem, about that one, and after it."""
    before, _, after = (ask(one) for one in trials)
    for name, x in before.items():
        if not torch.equal(x, after[name]):
            raise LawBroken(f"no memory: two answers of {way} for layer {name!r} differ")
        yield 0.0


@law_of_a_trial("leaves alone", "a question changes nothing", Lane.SUBJECT, measures=False)
def leaves_alone(trial: Trial) -> Iterator[float]:
    """model, data, gradients, flags, buffers, hooks and random states are as they were before"""
    subject, V = trial.subject, at_random(trial.blocks, seed=3)
    questions: list[Callable[[], object]] = [  # all that can be asked about a problem
        lambda: trial.cases,
        lambda: trial.preconditioned,
        lambda: trial.inverse and trial.inverse.of_U,
        lambda: trial.diagonals,
        lambda: trial.sample_gradients,
        trial.drawn.once,
        lambda: subject.fisher_product and trial.fisher_product(V),
        lambda: subject.optimizer and trial.trained(3, settings_for(trial)),
    ]
    return each(_left_alone(trial, question) for question in questions)


def _left_alone(trial: Trial, question: Callable[[], object]) -> Iterator[float]:
    question()
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
        asks = {**subject.operators, **subject.tensors}
        for way, drawn in subject.sampled.items():
            asks[way] = partial(_once, drawn)
        precondition, product = subject.precondition, subject.fisher_product
        if precondition is not None:
            asks["precondition"] = lambda one: precondition(one, _gradients(one, trial), 1.0)
        if product is not None:
            asks["fisher_product"] = lambda one: product(one, _gradients(one, trial))
        for way, ask in asks.items():
            if not _refuses(ask, changed.copied(change(trial.problem))):
                raise LawBroken(f"refused: {way} answered in silence")
            yield 0.0

    return law


def _once(drawn: Ask, problem: Problem) -> Answer:
    """One draw of every label."""
    return drawn(replace(problem, fisher=Sampled()))


def _gradients(problem: Problem, trial: Trial) -> dict[str, Tensor]:
    """Random ones for the layers that the problem is about, of any shape where there is no such."""
    shapes = {name: extent(blocks) for name, blocks in trial.blocks.items()}
    try:
        layers = packed(layers_of(problem), trial.blocks.__contains__)
        shapes = {one.name: one.shape for one in layers}
    except ProblemError:
        shapes = dict.fromkeys(problem.layers or (), next(iter(shapes.values())))
    generator = torch.Generator().manual_seed(3)
    dtype = algebra_dtype(problem.dtype)
    return {name: torch.randn(of, generator=generator).to(dtype) for name, of in shapes.items()}


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


@law_of_a_trial("precondition", "by definition, M as the subject's own", Lane.PRECONDITION)
def preconditions(trial: Trial) -> Iterator[float]:
    """(M + d I) x = v for x = precondition(v), d = 1e-06 and 1, and the same bits twice

    M is E, or K, or F: the first of these that the subject shows. K may be damped by factors.
    """
    if trial.subject.precondition is None or not trial.subject.operators:
        return
    cases = iter(trial.cases)
    for name, blocks in trial.blocks.items():
        pairs = [(block, next(cases).operators[0]) for block in blocks]
        for solved in trial.preconditioned[name]:
            if not torch.equal(solved.x, solved.again):
                raise LawBroken("precondition: the same question twice has two answers")
            yield from solves_layer("precondition", pairs, solved)
