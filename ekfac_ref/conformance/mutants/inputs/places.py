"""A correct EKFAC on what a layer saw, changed with an eye to where it saw it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.mutants.inputs.samples import with_inputs
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation, in_dtype
from ekfac_ref.model.forward import call
from ekfac_ref.model.layers import Layer, find_layers
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True, eq=False)
class Sight:
    """What one layer (group) saw, and where that comes from."""

    problem: Problem
    layers: tuple[Layer, ...]
    layer: Layer
    group: int
    seen: Observation

    @property
    def module(self) -> Any:
        return self.problem.model.get_submodule(self.layer.name)

    @property
    def uses(self) -> int:
        """How often the forward pass uses the weight."""
        return len(hooked(self.problem, self.layer)[0])

    @property
    def image(self) -> tuple[int, ...]:
        """Size of the images that go into a convolution."""
        return tuple(hooked(self.problem, self.layer)[0][0].shape[2:])


def on_sight(change: Callable[[Sight], Observation]) -> Ask:
    """The correct algebra on changed observations, layer by layer."""

    def look(problem: Problem) -> dict[str, list[Observation]]:
        layers = find_layers(problem.model, problem.layers)
        right = observed_exactly(problem)
        return {
            layer.name: [
                change(Sight(problem, layers, layer, k, seen))
                for k, seen in enumerate(right[layer.name])
            ]
            for layer in layers
        }

    return replace(CORRECT, look=look).ekfac


def of_inputs(
    change: Callable[[Sight], list[Tensor]], applies: Callable[[Sight], bool] = lambda s: True
) -> Ask:
    """Other inputs, and the gradients that follow from them."""

    def changed(sight: Sight) -> Observation:
        return with_inputs(sight.seen, change(sight)) if applies(sight) else sight.seen

    return on_sight(changed)


def hooked(problem: Problem, layer: Layer) -> list[list[Tensor]]:
    """The first input of every use of the layer as hooks see it, batch by batch, in float64."""
    problem = in_dtype(problem, torch.float64)
    weight = problem.model.get_parameter(layer.parameters[0])
    owners = [m for m in problem.model.modules() if getattr(m, "weight", None) is weight]
    caught: list[list[Tensor]] = []

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        caught[-1].append(args[0].clone())

    handles = [owner.register_forward_pre_hook(hook) for owner in owners]
    for inputs, _ in problem.batches:
        caught.append([])
        call(problem.model, inputs)
    for handle in handles:
        handle.remove()
    return caught


def has_bias(sight: Sight) -> bool:
    """Whether the last input is the homogeneous 1."""
    return sight.layer.bias is not None
