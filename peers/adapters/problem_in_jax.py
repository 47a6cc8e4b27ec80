"""A problem in JAX, and programs that are compiled once for all batches of one structure."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax
import torch
from torch import Tensor

import ekfac_ref as ek
from peers.adapters.in_jax import Network, array, inputs_of, tensor, turned, turned_back
from peers.adapters.of_layer import Product

AT_ONCE = 16  # structures whose programs are kept: questions come network by network
Programs = TypeVar("Programs")


@dataclass(frozen=True)
class BatchInJax:
    """A batch, and the network on it.

    Attributes:
        N: the number of samples.
        network: a function of the arguments' parts.
        arguments: parameters, constants, and (inputs, targets).
        structure: what batches have in common that are asked the same thing of the same program.
    """

    N: int
    network: Network
    arguments: tuple[Any, Any, Any]
    structure: Hashable


class ProblemInJax:
    """Parameters of a problem's layers, and its batches.

    Attributes:
        problem: as it was posed.
        empirical: whether it has the empirical Fisher.
        layers: of its model.
        torch: {name: parameter} of the layers; ``parameters`` are these in JAX.
    """

    def __init__(self, problem: ek.Problem) -> None:
        self.problem, self.empirical = problem, isinstance(problem.fisher, ek.Empirical)
        self.layers = ek.find_layers(problem.model, problem.layers)
        named = dict(problem.model.named_parameters())
        self.torch = {name: named[name] for layer in self.layers for name in layer.parameters}
        with self.precision():
            self.parameters = {name: array(turned(p)) for name, p in self.torch.items()}

    def precision(self) -> Any:
        """JAX with float64, or as it is by default, without: it mixes them where both are there."""
        return jax.enable_x64(self.problem.dtype == torch.float64)

    def batches(self) -> Iterator[BatchInJax]:
        """One after the other; to be used in ``precision``."""
        of_problem = self.empirical, repr(self.problem.likelihood)
        for x, y in self.problem.batches:
            inputs = inputs_of(self.problem.model, x)
            network = Network(self.problem.model, inputs, self.torch)
            arguments = self.parameters, network.constants, (inputs, array(y))
            shapes = jax.tree.map(lambda one: (one.shape, one.dtype), arguments)
            structure = network.structure, repr(shapes), of_problem
            yield BatchInJax(len(y), network, arguments, structure)

    def product(self, function: Callable[[Any], Any]) -> Product:
        """A function of {name: array} as one of a list of tensors."""

        def on(tensors: list[Tensor]) -> list[Tensor]:
            with self.precision():
                vector = {k: array(turned(t)) for k, t in zip(self.torch, tensors, strict=True)}
                found = function(vector)
            return [turned_back(tensor(found[name])) for name in self.torch]

        return on


class LastPrograms(Generic[Programs]):
    """What ``make`` makes of a problem and one of its batches, once for a structure.

    Of the last few alone: those of a whole run are gigabytes.
    """

    def __init__(self, make: Callable[[ProblemInJax, BatchInJax], Programs]) -> None:
        self._make = make
        self._of: OrderedDict[Hashable, Programs] = OrderedDict()

    def of(self, asked: ProblemInJax, batch: BatchInJax) -> Programs:
        """Those of its structure."""
        if batch.structure not in self._of:
            self._of[batch.structure] = self._make(asked, batch)
        self._of.move_to_end(batch.structure)
        if len(self._of) > AT_ONCE:
            self._of.popitem(last=False)
        return self._of[batch.structure]
