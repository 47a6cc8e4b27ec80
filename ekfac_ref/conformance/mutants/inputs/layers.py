"""What a layer saw, with the layer itself: for mistakes that need its module or images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.mutants.inputs.samples import from_inputs
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.problems.changed import in_dtype
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.model.forward import call
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True, eq=False)
class LayerObservation:
    """What one layer (group) saw, together with the layer and the problem.

    Attributes:
        problem: in which it was observed.
        layers: all layers of the problem.
        layer: the one that saw it.
        group: number of its group, 0 in a layer without groups.
        seen: what it saw, in float64.
    """

    problem: Problem
    layers: tuple[Layer, ...]
    layer: Layer
    group: int
    seen: Observation

    @property
    def module(self) -> Any:
        """The layer in the problem's own model."""
        return self.problem.model.get_submodule(self.layer.name)

    @property
    def inputs(self) -> list[list[Tensor]]:
        """What hooks see: the first input of every use, batch by batch, in float64."""
        problem = in_dtype(self.problem, torch.float64)
        weight = problem.model.get_parameter(self.layer.parameters[0])
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

    @property
    def uses(self) -> int:
        """How often the forward pass uses the weight."""
        return len(self.inputs[0])

    @property
    def image_size(self) -> tuple[int, ...]:
        """Of the images that go into a convolution, without channels."""
        return tuple(self.inputs[0][0].shape[2:])

    def has_bias(self) -> bool:
        """Whether the last input is the homogeneous 1."""
        return self.layer.bias is not None


Applies = Callable[[LayerObservation], bool]


def with_layers(change: Callable[[LayerObservation], Observation]) -> Ask:
    """An EKFAC that is right but for what each layer is taken to have seen."""

    def observe(problem: Problem) -> Observations:
        layers = layers_of(problem)
        right = observed_exactly(problem)
        return {
            layer.name: [
                change(LayerObservation(problem, layers, layer, k, seen))
                for k, seen in enumerate(right[layer.name])
            ]
            for layer in layers
        }

    return replace(CORRECT, observe=observe).ekfac


def with_inputs(
    change: Callable[[LayerObservation], list[Tensor]], applies: Applies = lambda here: True
) -> Ask:
    """An EKFAC of other inputs [T_n, d_in], where it applies, and of the gradients that follow."""

    def changed(here: LayerObservation) -> Observation:
        return from_inputs(here.seen, change(here)) if applies(here) else here.seen

    return with_layers(changed)
