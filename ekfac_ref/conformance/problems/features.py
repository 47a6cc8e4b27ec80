"""What is special about a problem, by name: what an implementation may not know how to treat.

A feature is a fact about the problem alone. Whoever draws problems, counts verdicts or looks for
what the wrong ones have in common goes by these names.
"""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.model.forward import call
from ekfac_ref.model.layer_kinds import OP_OF
from ekfac_ref.question.columns import Empirical, Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand, Reduce

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ANY_CONVOLUTION = _CONVOLUTIONS + _TRANSPOSED
SURE = 0.999  # from this probability on, an output is decided


@dataclass(frozen=True, eq=False)
class Facts:
    """A problem, and what shows when its model is called.

    Attributes:
        problem: whose features are asked for.
        layers: the modules that it asks about, each once, though it may have several names.
        uses: (layer, shape of its first input, shape of its output) of every call.
        outputs: of every batch.
    """

    problem: Problem
    layers: list[nn.Module]
    uses: list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]]
    outputs: list[Tensor]

    @property
    def samples(self) -> int:
        """The number N of samples, over all batches."""
        return sum(map(len, self.outputs))

    @property
    def often(self) -> float:
        """How often the layer that is used most is used in a pass."""
        return max(Counter(layer for layer, *_ in self.uses).values(), default=0) / len(
            self.outputs
        )

    def of(self, *kinds: type[nn.Module]) -> list[Any]:
        """The layers of these kinds."""
        return [layer for layer in self.layers if isinstance(layer, kinds)]

    def any(self, kinds: tuple[type[nn.Module], ...], has: Callable[[Any], bool]) -> bool:
        """Whether some layer of these kinds has it."""
        return any(has(layer) for layer in self.of(*kinds))


def facts_of(problem: Problem) -> Facts:
    """Call a copy of the model on every batch, and note what reaches the layers."""
    model, uses = copy.deepcopy(problem.model), []
    asked = [
        module
        for name, module in model.named_modules()
        if (isinstance(module, tuple(OP_OF)) if problem.layers is None else name in problem.layers)
        and any(p.requires_grad for p in module.parameters(False))
    ]
    for module in asked:
        module.register_forward_hook(
            lambda m, x, y: uses.append((m, tuple(x[0].shape), tuple(y.shape)))
        )
    with torch.no_grad():
        outputs = [call(model, inputs) for inputs, _ in problem.batches]
    return Facts(problem, asked, uses, outputs)


@dataclass(frozen=True)
class Feature:
    """One feature.

    Attributes:
        name: as reports have it.
        has: whether a problem has it.
        kinds: of layers that can have it; () where it is no matter of a layer.
    """

    name: str
    has: Callable[[Facts], bool]
    kinds: tuple[type[nn.Module], ...] = ()


def _kind(kind: type[nn.Module]) -> Feature:
    return Feature(kind.__name__, lambda facts: bool(facts.of(kind)), (kind,))


def _of_a_layer(
    name: str, kinds: tuple[type[nn.Module], ...], has: Callable[[Any], bool]
) -> Feature:
    return Feature(name, lambda facts: facts.any(kinds, has), kinds)


def _is(name: str, what: Callable[[Problem], Any], kind: type) -> Feature:
    return Feature(name, lambda facts: isinstance(what(facts.problem), kind))


def _positions(kinds: tuple[type[nn.Module], ...], axes: Callable[[int], bool]) -> Any:
    """Whether some such layer is used at several positions, along so many axes."""

    def has(facts: Facts) -> bool:
        return any(
            isinstance(layer, kinds) and axes(len(x) - 2) and prod(x[1:-1]) > 1
            for layer, x, _ in facts.uses
        )

    return has


def _several_outputs(facts: Facts) -> bool:
    """Whether some convolution has several positions."""
    return any(isinstance(m, _ANY_CONVOLUTION) and prod(y[2:]) > 1 for m, _, y in facts.uses)


def _embedded(facts: Facts) -> bool:
    return any(isinstance(m, nn.Embedding) and prod(x[1:]) > 1 for m, x, _ in facts.uses)


def _same(odd: bool) -> Callable[[Any], bool]:
    """padding='same', where the zeros on some axis are an odd number, or on none."""

    def has(layer: Any) -> bool:
        zeros = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return layer.padding == "same" and odd == any(n % 2 for n in zeros)

    return has


def _padded(layer: Any) -> bool:
    return not isinstance(layer.padding, str) and any(layer.padding)


def _tied(facts: Facts) -> bool:
    owners = Counter(id(p) for m in facts.problem.model.modules() for p in m.parameters(False))
    return max(owners.values(), default=0) > 1


def _two_names(facts: Facts) -> bool:
    names = Counter(id(m) for _, m in facts.problem.model.named_modules(remove_duplicate=False))
    return max(names.values()) > 1


def _saturated(facts: Facts) -> bool:
    likelihood = facts.problem.likelihood
    if isinstance(likelihood, Categorical):
        return any(
            bool((f.double().softmax(likelihood.class_axis) > SURE).any()) for f in facts.outputs
        )
    if isinstance(likelihood, Bernoulli):
        return any(bool((f.double().abs().sigmoid() > SURE).any()) for f in facts.outputs)
    return False


def _ignored(facts: Facts) -> bool:
    likelihood = facts.problem.likelihood
    return isinstance(likelihood, Categorical) and any(
        not bool(likelihood.counted(y).all()) for _, y in facts.problem.batches
    )


def _class_axis(facts: Facts) -> bool:
    """Whether the classes are not on the last axis."""
    likelihood = facts.problem.likelihood
    return isinstance(likelihood, Categorical) and any(
        likelihood.class_axis not in (-1, f.dim() - 1) for f in facts.outputs
    )


def _rank_deficient(facts: Facts) -> bool:
    """Whether some layer has more inputs than all samples together have positions."""
    for layer in facts.layers:
        rows = sum(
            y[0] * prod(y[2:] if isinstance(layer, _ANY_CONVOLUTION) else x[1:-1])
            for m, x, y in facts.uses
            if m is layer
        )
        if not isinstance(layer, _TRANSPOSED) and rows < next(layer.parameters(False))[0].numel():
            return True
    return False


def _in_dtype(dtype: torch.dtype) -> Feature:
    return Feature(str(dtype).removeprefix("torch."), lambda facts: facts.problem.dtype is dtype)


_EVERY = tuple(OP_OF)
_WITH_BIAS = tuple(kind for kind in _EVERY if kind is not nn.Embedding)

_FEATURES = (
    *map(_kind, _EVERY),
    _of_a_layer("no bias", _WITH_BIAS, lambda m: m.bias is None),
    _of_a_layer("groups", _ANY_CONVOLUTION, lambda m: m.groups > 1),
    _of_a_layer("depthwise", _ANY_CONVOLUTION, lambda m: m.groups == m.in_channels > 1),
    _of_a_layer("stride", _ANY_CONVOLUTION, lambda m: max(m.stride) > 1),
    _of_a_layer("dilation", _ANY_CONVOLUTION, lambda m: max(m.dilation) > 1),
    _of_a_layer("padding", _ANY_CONVOLUTION, _padded),
    _of_a_layer("padding same, even", _CONVOLUTIONS, _same(odd=False)),
    _of_a_layer("padding same, odd", _CONVOLUTIONS, _same(odd=True)),
    _of_a_layer("padding mode", _CONVOLUTIONS, lambda m: m.padding_mode != "zeros"),
    _of_a_layer("output padding", _TRANSPOSED, lambda m: any(m.output_padding)),
    _of_a_layer("padding_idx", (nn.Embedding,), lambda m: m.padding_idx is not None),
    Feature("positions of a Linear, one axis", _positions((nn.Linear,), lambda n: n == 1)),
    Feature("positions of a Linear, several axes", _positions((nn.Linear,), lambda n: n > 1)),
    Feature("positions of a convolution", _several_outputs, _ANY_CONVOLUTION),
    Feature("positions of an Embedding", _embedded, (nn.Embedding,)),
    Feature("called twice", lambda facts: facts.often > 1),
    Feature("tied weight", _tied),
    Feature("one module, two names", _two_names),
    Feature(
        "in-place activation",
        lambda facts: any(getattr(m, "inplace", False) for m in facts.problem.model.modules()),
    ),
    Feature("some layers only", lambda facts: facts.problem.layers is not None),
    Feature("mask", lambda facts: facts.problem.mask is not None),
    Feature("outputs at positions", lambda facts: any(f.dim() > 2 for f in facts.outputs)),
    Feature("class axis", _class_axis),
    Feature("ignored labels", _ignored),
    Feature("saturated", _saturated),
    Feature("one sample", lambda facts: facts.samples == 1),
    Feature("uneven batches", lambda facts: len({len(f) for f in facts.outputs}) > 1),
    Feature("fewer rows than inputs", _rank_deficient),
    *(
        _is(kind.__name__, lambda problem: problem.likelihood, kind)
        for kind in (Gaussian, Categorical, Bernoulli, Poisson)
    ),
    _is("exact Fisher", lambda problem: problem.fisher, Exact),
    _is("empirical Fisher", lambda problem: problem.fisher, Empirical),
    _is("expand", lambda problem: problem.sharing, Expand),
    _is("reduce", lambda problem: problem.sharing, Reduce),
    *map(_in_dtype, (torch.float64, torch.float32, torch.bfloat16)),
)

FEATURES: Mapping[str, Feature] = MappingProxyType({f.name: f for f in _FEATURES})


def features(problem: Problem) -> tuple[str, ...]:
    """The names of all that the problem has, in the order of FEATURES."""
    facts = facts_of(problem)
    return tuple(name for name, feature in FEATURES.items() if feature.has(facts))
