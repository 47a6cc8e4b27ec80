"""What an optimizer did: the parameters before its first step and after every one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import in_projections, layers_of
from ekfac_ref.question.problem import Problem

# Trains the problem's own model, one step on each of its batches, and yields after every step.
Optimize = Callable[[Problem, Hyperparameters], Iterable[Any]]
_Values = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Trained:
    """Some steps of training.

    Attributes:
        problem: the model as it was before, and one batch for each step.
        settings: that the optimizer was given.
        values: of all parameters, before the first step and after every one.
    """

    problem: Problem
    settings: Hyperparameters
    values: list[_Values]

    def move(self, step: int) -> dict[str, Tensor]:
        """{layer: Delta of [W | b] in the step, [d_out, d_in]}, in float64."""
        before, after = self.values[step], self.values[step + 1]
        moved = {name: after[name].double() - x.double() for name, x in before.items()}
        return {layer.name: layer.to_matrix(moved) for layer in self._layers()}

    def sizes(self, step: int) -> dict[str, float]:
        """{layer: the norm of [W | b] before or after the step, whichever is larger}."""
        both = [{name: x.double() for name, x in self.values[s].items()} for s in (step, step + 1)]
        return {
            layer.name: max(float(layer.to_matrix(values).norm()) for values in both)
            for layer in self._layers()
        }

    def before(self, step: int) -> Problem:
        """What the step was about: the batch, and the model as it was then."""
        model = deep_copy(self.problem.model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self.values[step][name])
        batch = [*self.problem.batches][step]
        return replace(self.problem, model=model, batches=[batch])

    def _layers(self) -> list[Layer]:
        """With those that some definitions make of several."""
        layers = layers_of(self.problem)
        return [*layers, *in_projections(layers).values()]


def training_problem(problem: Problem, steps: int) -> Problem:
    """The problem with so many batches, those it has in turns."""
    batches = [*problem.batches]
    return replace(problem, batches=[batches[t % len(batches)] for t in range(steps)])


def values(problem: Problem) -> _Values:
    """Copies of all parameters, by name."""
    return {name: p.detach().clone() for name, p in problem.model.named_parameters()}


def followed(optimize: Optimize, given: Problem, settings: Hyperparameters) -> list[_Values]:
    """Let it train the model of ``given``, and look at the parameters whenever it yields."""
    found = [values(given)]
    found += [values(given) for _ in optimize(given, settings)]
    return found


def retold(given: Problem, found: list[_Values]) -> Iterator[None]:
    """Such steps as these, once more, in the model of ``given``."""
    for after in found[1:]:
        with torch.no_grad():
            for name, parameter in given.model.named_parameters():
                parameter.copy_(after[name])
        yield
