"""A correct optimizer in the steps that mistakes are made in; a mutant replaces one of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import (
    ByCurvature,
    ByGradient,
    Hyperparameters,
    Training,
)
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.training.closed_form import Rules, RunningCurvature
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.columns import Empirical
from ekfac_ref.question.problem import Problem

CLIPPING = Definition(training=Training(clip=ByCurvature()))
BlockName = tuple[str, int]
_PerBlock = dict[BlockName, Tensor]
History = dict[tuple[BlockName, tuple[int, int]], list[Observation]]


def _velocity(momentum: float, before: Tensor, x: Tensor) -> Tensor:
    return momentum * before + x


def one_clip(settings: Hyperparameters, squares: dict[BlockName, float]) -> dict[BlockName, float]:
    """{block: nu}, from lr^2 v^T M v of each; one for all."""
    size = sum(squares.values())
    nu = 1.0
    if settings.kl_clip is not None and size > 0:
        nu = min(1.0, (2 * settings.kl_clip / size) ** 0.5)
    return dict.fromkeys(squares, nu)


@dataclass(frozen=True)
class Trainer:
    """A correct optimizer in the steps that mistakes are made in.

    Attributes:
        rules: what becomes of M.
        velocity: (momentum, v so far, direction) to v.
        nu: (settings, {block: lr^2 v^T M v}) to {block: what its step is shortened to}.
        sign: -1 downhill.
        history: what blocks have seen when a training begins: nothing.
        definition: the rules that it has, of EKFAC or KFAC; blocks are the default's.
    """

    rules: Rules = field(default_factory=Rules)
    velocity: Callable[[float, Tensor, Tensor], Tensor] = _velocity
    nu: Callable[[Hyperparameters, dict[BlockName, float]], dict[BlockName, float]] = one_clip
    sign: float = -1.0
    history: Callable[[], History] = dict
    definition: Definition = CLIPPING

    def optimizer(self, problem: Problem, settings: Hyperparameters) -> Iterator[None]:
        """Train the problem's model, a step for each of its batches."""
        layers = layers_of(problem)
        history, v = self.history(), dict[BlockName, Tensor]()
        for batch in problem.batches:
            here = replace(problem, model=deep_copy(problem.model), batches=[batch])
            gradients, squares = _gradients(here), {}
            for block, seen in _blocks(here).items():
                so_far = history.setdefault((block, seen.shape), [])
                so_far.append(seen)
                M, g = self._curvature(so_far, settings), gradients[block]
                x = M.times(M.inverse(settings.damping), g)
                v[block] = self.velocity(settings.momentum, v.get(block, torch.zeros_like(x)), x)
                squares[block] = settings.lr**2 * self._square(v[block], M, g)
            nu = self.nu(settings, squares)
            v = {block: nu[block] * x for block, x in v.items()}
            _move(layers, problem, {block: self.sign * settings.lr * x for block, x in v.items()})
            yield

    def _curvature(
        self, seen: Sequence[Observation], settings: Hyperparameters
    ) -> RunningCurvature:
        how, training = self.definition.damping, self.definition.training
        *_, last = self.rules.curvatures(seen, how, training, settings)
        return last

    def _square(self, v: Tensor, M: RunningCurvature, g: Tensor) -> float:
        """v^T M v, or as much of v^T g as stands for it in a clip by the gradient."""
        if isinstance(self.definition.training.clip, ByGradient):
            return 2 * float((v * g).sum())
        return float((v * M.times(M.matrix, v)).sum())


def _blocks(problem: Problem) -> dict[BlockName, Observation]:
    return {
        (layer, k): seen
        for layer, groups in observed_exactly(problem).items()
        for k, seen in enumerate(groups)
    }


def _gradients(problem: Problem) -> _PerBlock:
    labelled = replace(problem, fisher=Empirical())
    return {
        block: torch.stack([G.sum(0) for G in seen.G]).mean(0)
        for block, seen in _blocks(labelled).items()
    }


def _move(layers: tuple[Layer, ...], problem: Problem, by: _PerBlock) -> None:
    parameters = dict(problem.model.named_parameters())
    with torch.no_grad():
        for layer in layers:
            parts = [x for (name, _), x in by.items() if name == layer.name]
            for name, x in layer.from_matrix(torch.cat(parts)).items():
                parameters[name].add_(x.to(parameters[name].dtype))
