"""What is special about a block of a layer, by name: what those that are wrong may have in common.

The names are those of ``problems/features.py`` where that has them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

from ekfac_ref.conformance.own_model.measured.measure import Measured
from ekfac_ref.conformance.own_model.measured.parts import OwnPart
from ekfac_ref.model.copies.modes import ITS_OWN
from ekfac_ref.model.recording.bare_weights import bare_weights
from ekfac_ref.model.weights.attention import QUERY_KEY_VALUE
from ekfac_ref.model.weights.layer_kinds import LOOKUPS, SPATIAL_AXES
from ekfac_ref.model.weights.owned import Owned, owned_by
from ekfac_ref.question.problem import Problem


def features_of_parts(problem: Problem, known: Sequence[Measured]) -> list[tuple[str, ...]]:
    """Of every part; names of features that all have are left in, since nothing hangs on them."""
    modules = problem.model.named_modules()
    weights = [one for name, module in modules for one in owned_by(name, module)]
    weights += [one.of(problem.model) for one in bare_weights(problem, ITS_OWN)]
    by_name = {one.name: one for one in weights}
    tied = Counter((id(one.weight), one.rows[0]) for one in weights)
    endings = Counter(_ending(name) for name in {one.part.layer for one in known})
    found = []
    for one in known:
        stem = one.part.layer.removesuffix("in_proj")
        own = by_name.get(one.part.layer) or by_name[stem + QUERY_KEY_VALUE[0]]
        names = [*_of_weight(own), *_of_part(one)]
        if tied[id(own.weight), own.rows[0]] > 1:
            names.append("weight of several modules")
        if endings[_ending(one.part.layer)] > 1:
            names.append(f"named *.{_ending(one.part.layer)}")
        found.append((*names, f"layer {one.part.layer}"))
    return found


def _ending(layer: str) -> str:
    """Of the name; for all matrices of a stack the same."""
    return layer.partition("[")[0].rpartition(".")[2]


def _of_weight(one: Owned) -> Iterator[str]:
    yield one.kind
    if one.op not in LOOKUPS and one.bias is None:
        yield "no bias"
    if one.op in LOOKUPS and one.options.get("padding_idx") is not None:
        yield "padding_idx"
    if one.op in SPATIAL_AXES and one.options:  # a module's
        module = SimpleNamespace(**one.options)
        options = {
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
