"""What is special about a problem, by name: what an implementation may not know how to treat.

A feature is a fact about the problem alone. Whoever draws problems, counts verdicts or looks for
what the wrong ones have in common goes by these names.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION, Facts, facts_of, with_gradient
from ekfac_ref.conformance.problems.wiring import WIRING, Feature
from ekfac_ref.model.weights.layer_kinds import OP_OF
from ekfac_ref.question.columns import Empirical, Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand, Reduce

CONVOLUTION_KINDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_KINDS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
KINDS_OF_TWO_AXES = (nn.Conv2d, nn.ConvTranspose2d)
KINDS_OF_THREE_AXES = (nn.Conv3d, nn.ConvTranspose3d)
SURE = 0.999  # from this probability on, an output is decided


def _kind(kind: type[nn.Module]) -> Feature:
    return Feature(kind.__name__, lambda facts: bool(facts.of(kind)), (kind,))


def _of_a_layer(
    name: str, kinds: tuple[type[nn.Module], ...], has: Callable[[Any], bool]
) -> Feature:
    return Feature(name, lambda facts: facts.any(kinds, has), kinds)


def _is(name: str, what: Callable[[Problem], Any], kind: type) -> Feature:
    return Feature(name, lambda facts: isinstance(what(facts.problem), kind))


def _positions(axes: Callable[[int], bool]) -> Callable[[Facts], bool]:
    """Whether some Linear is used at several positions, along so many axes."""

    def has(facts: Facts) -> bool:
        return any(
            isinstance(use.layer, nn.Linear) and axes(len(use.x) - 2) and use.positions > 1
            for use in facts.uses
        )

    return has


def _at_positions(kinds: tuple[type[nn.Module], ...]) -> Callable[[Facts], bool]:
    return lambda facts: any(isinstance(u.layer, kinds) and u.positions > 1 for u in facts.uses)


def _same(odd: bool) -> Callable[[Any], bool]:
    """padding='same', where the zeros on some axis are an odd number, or on none."""

    def has(layer: Any) -> bool:
        zeros = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return layer.padding == "same" and odd == any(n % 2 for n in zeros)

    return has


def _padded(layer: Any) -> bool:
    return not isinstance(layer.padding, str) and any(layer.padding)


def _uneven(name: str, option: str) -> Feature:
    """That the axes of a convolution differ in this option; padding='same' is no number to each."""

    def has(layer: Any) -> bool:
        by_axis = getattr(layer, option)
        return not isinstance(by_axis, str) and len(set(by_axis)) > 1

    return _of_a_layer(f"uneven {name}", KINDS_OF_TWO_AXES + KINDS_OF_THREE_AXES, has)


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
        uses = [use for use in facts.uses if use.layer is layer]
        rows = sum(use.x[0] * use.positions for use in uses)
        if (
            not isinstance(layer, TRANSPOSED_KINDS)
            and rows < next(layer.parameters(False))[0].numel()
        ):
            return True
    return False


def _many_positions(facts: Facts) -> bool:
    """Whether some layer has as many positions as weights: implementations change paths there."""
    weights = {use: next(use.layer.parameters(False)).numel() for use in facts.uses}
    return any(1 < use.positions >= n for use, n in weights.items())


def _in_dtype(dtype: torch.dtype) -> Feature:
    return Feature(str(dtype).removeprefix("torch."), lambda facts: facts.problem.dtype is dtype)


def _some_masks(facts: Facts) -> bool:
    """Whether there are batches with a mask and without."""
    mask = facts.problem.mask
    return mask is not None and len({mask(x) is None for x, _ in facts.problem.batches}) == 2


def _drops(facts: Facts) -> bool:
    batches = facts.problem.batches
    return isinstance(batches, DataLoader) and batches.drop_last


_EVERY = tuple(OP_OF)
_TOKENS = (nn.Linear, nn.Embedding)
_WITH_BIAS = tuple(kind for kind in _EVERY if kind is not nn.Embedding)
_FREE = tuple(kind for kind in _EVERY if kind not in TRANSPOSED_KINDS)

_FEATURES = (
    *map(_kind, _EVERY),
    _of_a_layer("no bias", _WITH_BIAS, lambda m: m.bias is None),
    _of_a_layer(
        "frozen bias", _WITH_BIAS, lambda m: m.bias is not None and not m.bias.requires_grad
    ),
    _of_a_layer("groups", ANY_CONVOLUTION, lambda m: m.groups > 1),
    _of_a_layer("depthwise", ANY_CONVOLUTION, lambda m: m.groups == m.in_channels > 1),
    _of_a_layer("stride", ANY_CONVOLUTION, lambda m: max(m.stride) > 1),
    _of_a_layer("dilation", ANY_CONVOLUTION, lambda m: max(m.dilation) > 1),
    _of_a_layer("padding", ANY_CONVOLUTION, _padded),
    # Who takes the numbers of one axis for all is right where these are equal.
    _uneven("kernel", "kernel_size"),
    *(_uneven(option, option) for option in ("stride", "dilation", "padding")),
    _of_a_layer("padding same, even", CONVOLUTION_KINDS, _same(odd=False)),
    _of_a_layer("padding same, odd", CONVOLUTION_KINDS, _same(odd=True)),
    _of_a_layer("padding mode", CONVOLUTION_KINDS, lambda m: m.padding_mode != "zeros"),
    _of_a_layer("padding by reflection", CONVOLUTION_KINDS, lambda m: m.padding_mode == "reflect"),
    _of_a_layer("output padding", TRANSPOSED_KINDS, lambda m: any(m.output_padding)),
    _of_a_layer("padding_idx", (nn.Embedding,), lambda m: m.padding_idx is not None),
    Feature("positions of a Linear, one axis", _positions(lambda n: n == 1), (nn.Linear,)),
    Feature("positions of a Linear, several axes", _positions(lambda n: n > 1), (nn.Linear,)),
    Feature("positions of a convolution", _at_positions(ANY_CONVOLUTION), ANY_CONVOLUTION),
    Feature("positions of an Embedding", _at_positions((nn.Embedding,)), (nn.Embedding,)),
    Feature("more positions than weights", _many_positions, (nn.Linear, *CONVOLUTION_KINDS)),
    *WIRING,
    Feature("some layers only", lambda facts: facts.problem.layers is not None),
    Feature("mask", lambda facts: facts.problem.mask is not None, _TOKENS),
    Feature("mask in some batches", _some_masks, _TOKENS),
    Feature("outputs at positions", lambda facts: any(f.dim() > 2 for f in facts.outputs)),
    Feature("class axis", _class_axis),
    Feature("ignored labels", _ignored),
    Feature("saturated", _saturated),
    Feature("one sample", lambda facts: facts.samples == 1),
    Feature("several batches", lambda facts: len(facts.outputs) > 1),
    Feature("uneven batches", lambda facts: len({len(f) for f in facts.outputs}) > 1),
    Feature("DataLoader", lambda facts: isinstance(facts.problem.batches, DataLoader)),
    Feature("DataLoader, drop_last", _drops),
    Feature("fewer rows than inputs", _rank_deficient, _FREE),
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
    return _names(facts_of(problem))


def with_mute(problem: Problem) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of all that the problem has, and of these what only layers without gradient have.

    A right answer to those is zero, whatever is wrong with the one who gives it.
    """
    facts = facts_of(problem)
    every, showing = _names(facts), _names(with_gradient(facts))
    return every, tuple(name for name in every if name not in showing)


def _names(facts: Facts) -> tuple[str, ...]:
    return tuple(name for name, feature in FEATURES.items() if feature.has(facts))
