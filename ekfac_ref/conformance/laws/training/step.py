"""One step of an optimizer on trial, beside what the closed form makes of it.

Learning rate and damping are chosen to the size of the problem, so that a step is about a tenth as
long as the parameters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import log2

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.laws.replays import COARSE
from ekfac_ref.conformance.subjects.definition import Block, Definition
from ekfac_ref.conformance.subjects.preconditioned import middle_damping
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.training.closed_form import Rules, RunningCurvature, has_rows
from ekfac_ref.conformance.training.steps import Trained
from ekfac_ref.conformance.truth.cache import observed
from ekfac_ref.conformance.truth.eigengaps import gate
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import bounded, fisher_scale
from ekfac_ref.question.columns import Empirical, Sampled
from ekfac_ref.question.problem import Problem

BETA = 0.6
FIRST_MOVE = 0.1  # of the parameters' size, that the first step is about as long as


@dataclass(frozen=True, eq=False)
class JudgedStep:
    """One block in one step: what it did, and what the rules make of it.

    Attributes:
        seen: what the block saw of the batch.
        move: Delta of the subject, [d_out, d_in].
        before: the subject's Delta of the step before; zeros before the first.
        size: of the parameters, which a move is a difference of.
        gradient: g, of the batch's mean loss.
        scale: bounds the terms of g.
        curvature: M.
    """

    seen: Observation
    move: Tensor
    before: Tensor
    size: float
    gradient: Tensor
    scale: float
    curvature: RunningCurvature

    def direction(self, damping: float) -> Tensor | None:
        """(M + damping I)^-1 g; None where there is no one M or no inverse."""
        inverse = self.curvature.inverse(damping)
        if self.curvature.gap < gate(self.seen.dtype) or inverse is None:
            return None
        return self.curvature.times(inverse, self.gradient)

    def holds(self, law: str, expected: Tensor, x: Tensor, settings: Hyperparameters) -> float:
        """Delta as it should be, which is made of the direction x."""
        given = float(self.gradient.norm()) + self.scale
        of_x = self.curvature.roundings(settings.damping, given, float(x.norm()))
        scale = settings.lr * (of_x + self.scale / settings.damping)
        scale += self.size + float(self.before.norm()) * settings.momentum
        n = self.curvature.summands
        return bounded(law, self.move - expected, scale, self.seen, summands=n)


def settings_for(trial: Trial, **others: float) -> Hyperparameters:
    """Of the size of the problem; the same for the same problem."""
    damping = middle_damping(trial.blocks)
    of_layers = _gradients(trial.subject.definition, trial.problem)
    gradients = [float(g.norm()) for g, _ in of_layers.values()]
    sizes = [float(p.detach().double().norm()) for p in trial.problem.model.parameters()]
    longest, size = max(gradients), max(sizes)
    lr = FIRST_MOVE * damping * size / max(longest, 1e-300)
    power = round(log2(lr)) if 1e-30 < lr < 1e30 else -1  # where there is nothing to learn
    lr = 2.0 ** (power or -1)  # never 1, with which its square may be forgotten
    return Hyperparameters(lr, damping, BETA, **others)  # type: ignore[arg-type]


_Gradients = dict[str, tuple[Tensor, float]]


def _gradients(definition: Definition, problem: Problem) -> _Gradients:
    """{layer: of the mean loss, [d_out, d_in], and a bound on its terms}."""
    labelled = definition.seen(problem, observed(replace(problem, fisher=Empirical())))
    return {
        name: (
            torch.cat([torch.stack([G.sum(0) for G in one.G]).mean(0) for one in groups]),
            max(map(fisher_scale, groups)) ** 0.5,
        )
        for name, groups in labelled.items()
    }


def all_steps(trial: Trial, number: int, settings: Hyperparameters) -> list[list[JudgedStep]]:
    """Of every block, step by step; none where there is nothing to hold them against."""
    subject = trial.subject
    if trial.problem.dtype in COARSE:
        return []
    if isinstance(trial.problem.fisher, Sampled):  # whose labels differ from update to update
        return []
    trained = trial.trained(number, settings)
    questions = [trained.before(step) for step in range(number)]
    batches = [subject.definition.blocks(one, observed(one)) for one in questions]
    blocks = [block for batch in batches for several in batch.values() for block in several]
    if not all(has_rows(block.seen) for block in blocks):
        return []
    gradients = [_gradients(subject.definition, one) for one in questions]
    return [
        list(_of_a_block(subject.definition, trained, layer, of_block, gradients))
        for layer in batches[0]
        for of_block in zip(*(batch[layer] for batch in batches), strict=True)
    ]


def _of_a_block(
    definition: Definition,
    trained: Trained,
    layer: str,
    batches: Sequence[Block],
    gradients: list[_Gradients],
) -> Iterator[JudgedStep]:
    seen, settings = [block.seen for block in batches], trained.settings
    curvatures = Rules().curvatures(seen, definition.damping, definition.training, settings)
    before = torch.zeros(seen[0].shape, dtype=torch.float64)
    for step, curvature in enumerate(curvatures):
        block, (gradient, scale) = batches[step], gradients[step][layer]
        move, size = block.of(trained.move(step)[layer]), trained.sizes(step)[layer]
        yield JudgedStep(block.seen, move, before, size, block.of(gradient), scale, curvature)
        before = move


def first_steps(trial: Trial, settings: Hyperparameters) -> list[JudgedStep]:
    """The first step of every block."""
    return [of_block[0] for of_block in all_steps(trial, 1, settings)]


def later_steps(trial: Trial, number: int, settings: Hyperparameters) -> list[list[JudgedStep]]:
    """All steps but the first."""
    return [of_block[1:] for of_block in all_steps(trial, number, settings)]
