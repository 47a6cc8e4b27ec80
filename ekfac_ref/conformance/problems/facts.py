"""What shows when a problem's model is called: who uses which weight, on what, and how often."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ekfac_ref.model.forward import call
from ekfac_ref.model.refusals.weighted import combined
from ekfac_ref.model.weights.layer_kinds import ARGUMENTS_OF, OP_OF
from ekfac_ref.model.weights.linear_form import Call
from ekfac_ref.question.problem import Problem

ANY_CONVOLUTION = tuple(kind for kind in OP_OF if issubclass(kind, nn.modules.conv._ConvNd))


@dataclass(frozen=True, eq=False)
class Sighting:
    """One call of a layer that the problem asks about.

    Attributes:
        layer: the module.
        x: shape of its first input.
        y: shape of its output.
        samples: of the batch that it happened in.
        first: whether no layer of another weight was called before it, in this batch.
    """

    layer: nn.Module
    x: tuple[int, ...]
    y: tuple[int, ...]
    samples: int
    first: bool

    @property
    def positions(self) -> int:
        """T, as the shapes have it: axis 0 is taken for that of the samples."""
        if isinstance(self.layer, ANY_CONVOLUTION):
            return prod(self.y[2:])
        return prod(self.x[1:] if isinstance(self.layer, nn.Embedding) else self.x[1:-1])


@dataclass(frozen=True, eq=False)
class Facts:
    """A problem, and what shows when its model is called.

    Attributes:
        problem: whose features are asked for.
        model: the copy that was called.
        layers: the modules that it asks about, each once, though it may have several names.
        uses: every call of them, in the order of the calls.
        outputs: of every batch.
        applied: how often the weight of a layer was given to an op, less the calls of the modules
            that have this weight.
        overwritten: whether an input of some layer was changed in place after the layer's call.
    """

    problem: Problem
    model: nn.Module
    layers: list[nn.Module]
    uses: list[Sighting]
    outputs: list[Tensor]
    applied: int
    overwritten: bool

    @property
    def samples(self) -> int:
        """The number N of samples, over all batches."""
        return sum(map(len, self.outputs))

    @property
    def often(self) -> float:
        """How often the layer that is used most is used in a pass."""
        return max(Counter(use.layer for use in self.uses).values(), default=0) / len(self.outputs)

    def of(self, *kinds: type[nn.Module]) -> list[Any]:
        """The layers of these kinds."""
        return [layer for layer in self.layers if isinstance(layer, kinds)]

    def any(self, kinds: tuple[type[nn.Module], ...], has: Callable[[Any], bool]) -> bool:
        """Whether some layer of these kinds has it."""
        return any(has(layer) for layer in self.of(*kinds))


def facts_of(problem: Problem) -> Facts:
    """Call a copy of the model on every batch, and note what reaches the layers."""
    model = copy.deepcopy(problem.model)
    kinds: tuple[type[nn.Module], ...] = tuple(OP_OF)
    every = [(name, m) for name, m in model.named_modules() if isinstance(m, kinds)]
    asked = [
        module
        for name, module in every
        if (problem.layers is None or name in problem.layers)
        and any(p.requires_grad for p in module.parameters(False))
    ]
    watch = _Watch({id(m): m for m in asked})
    hooks = [module.register_forward_hook(watch.see) for _, module in every]
    outputs = []
    for inputs, targets in problem.batches:
        watch.begin(len(targets))
        with torch.no_grad(), watch:
            outputs.append(call(model, inputs))
        watch.end()
    for hook in hooks:
        hook.remove()
    return Facts(problem, model, asked, watch.uses, outputs, watch.applied, watch.overwritten)


def with_gradient(facts: Facts) -> Facts:
    """Without the layers whose gradients are all zero: there the right answer is zero, too."""
    moved = _moved(facts)
    layers = [layer for layer in facts.layers if layer in moved]
    return replace(facts, layers=layers, uses=[use for use in facts.uses if use.layer in moved])


def _moved(facts: Facts) -> set[nn.Module]:
    """The layers that have a gradient, in some sample and column."""
    problem, found = facts.problem, set[nn.Module]()
    own = [(m, p) for m in facts.layers for p in m.parameters(False) if p.requires_grad]
    for inputs, targets in problem.batches:
        with torch.enable_grad():
            f = call(facts.model, inputs)
        S = problem.fisher.columns(
            problem.likelihood, f.detach(), targets, 0
        )  # whatever labels are drawn
        gradients = torch.autograd.grad(f, [p for _, p in own], combined(S), allow_unused=True)
        found |= {m for (m, _), g in zip(own, gradients, strict=True) if g is not None and g.any()}
    return found


@dataclass(eq=False)
class _Watch(TorchFunctionMode):
    """Sees calls of layers, as their hook, and of their ops, as a mode."""

    asked: dict[int, nn.Module]
    uses: list[Sighting] = field(default_factory=list)
    applied: int = 0
    overwritten: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self._weights = {id(m.weight) for m in self.asked.values()}
        self.begin(0)

    def begin(self, samples: int) -> None:
        """A batch of so many samples begins."""
        self._samples, self._before = samples, set[int]()
        self._inputs: list[tuple[Tensor, int]] = []

    def end(self) -> None:
        """The batch ends: which of its inputs have been changed?"""
        self.overwritten |= any(x._version > version for x, version in self._inputs)

    def see(self, layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
        """The hook of all layers."""
        self._inputs.append((given[0], given[0]._version))
        if id(layer) in self.asked:
            x, y_shape = tuple(given[0].shape), tuple(y.shape)
            first = self._before <= {id(layer.weight)}
            self.uses.append(Sighting(layer, x, y_shape, self._samples, first))
        self.applied -= id(layer.weight) in self._weights
        self._before.add(id(layer.weight))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in ARGUMENTS_OF:
            weight = Call.bind(func, args, kwargs or {}).arguments["weight"]
            self.applied += id(weight) in self._weights
        return func(*args, **(kwargs or {}))
