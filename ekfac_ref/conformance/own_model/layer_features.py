"""What is special about a block of a layer, by name: what those that are wrong may have in common.

The names are those of ``problems/features.py`` where that has them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from ekfac_ref.conformance.own_model.measured.measure import Measured
from ekfac_ref.conformance.own_model.measured.parts import OwnPart
from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION
from ekfac_ref.question.problem import Problem


def features_of_parts(problem: Problem, known: Sequence[Measured]) -> list[tuple[str, ...]]:
    """Of every part; names of features that all have are left in, since nothing hangs on them."""
    modules = dict(problem.model.named_modules())
    tied = Counter(id(getattr(module, "weight", None)) for module in modules.values())
    endings = Counter(_ending(name) for name in {one.part.layer for one in known})
    found = []
    for one in known:
        module = modules[one.part.layer]
        names = [*_of_module(module), *_of_part(one)]
        if tied[id(module.weight)] > 1:
            names.append("weight of several modules")
        if endings[_ending(one.part.layer)] > 1:
            names.append(f"named *.{_ending(one.part.layer)}")
        found.append((*names, f"layer {one.part.layer}"))
    return found


def _ending(layer: str) -> str:
    return layer.rpartition(".")[2]


def _of_module(module: Any) -> Iterator[str]:
    yield type(module).__name__
    if not isinstance(module, nn.Embedding) and module.bias is None:
        yield "no bias"
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        yield "padding_idx"
    if isinstance(module, ANY_CONVOLUTION):
        options: dict[str, Any] = {
            "groups": module.groups > 1,
            "depthwise": module.groups == module.in_channels > 1,
            "stride": max(module.stride) > 1,
            "dilation": max(module.dilation) > 1,
            "padding": isinstance(module.padding, str) or max(module.padding) > 0,
            "padding mode": module.padding_mode != "zeros",
            "output padding": any(module.output_padding),
        }
        yield from (name for name, has in options.items() if has)


def _of_part(one: Measured) -> Iterator[str]:
    part: OwnPart = one.part
    if "bias" in part.name:
        yield "block of a bias"
    if one.positions > 1:
        yield "several positions"
    if bool((one.A.values <= 0).any()) or bool(one.A.is_zero.any()):
        yield "A without full rank"
    if not one.Lambda.any():
        yield "no gradient"
