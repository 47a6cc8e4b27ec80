"""Everything special that a problem may have, as a change of some parts of the plain case."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed import batching, row_wirings, wirings
from ekfac_ref.conformance.problems.designed.design import Channels, Design, ungrouped
from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION
from ekfac_ref.conformance.problems.features import CONVOLUTION_KINDS, FEATURES
from ekfac_ref.conformance.problems.networks import Gain, ScaledConv2d, ScaledLinear
from ekfac_ref.model.weights.layer_kinds import OP_OF
from ekfac_ref.question.columns import Empirical, Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.question.sharing import Expand, Reduce


def _grouped(draw: Draw) -> Channels:
    return draw(((2, 2, 1), (2, 2, 2)))


def _depthwise(draw: Draw) -> Channels:
    return draw(((2, 1, 2), (3, 1, 1), (2, 1, 3)))


def _wide(draw: Draw) -> Channels:
    return draw(((1, 5, 2), (1, 6, 1)))


def _in_place(channels: int, axes: int) -> nn.Module:
    return nn.ReLU(inplace=True)


def _with_parameter(channels: int, axes: int) -> nn.Module:
    return nn.Sequential(Gain(), nn.Tanh())


def _dropped(channels: int, axes: int) -> nn.Module:
    return nn.Sequential(nn.Tanh(), nn.Dropout(0.5))


def _normed(channels: int, axes: int) -> nn.Module:
    norm = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes]
    return nn.Sequential(norm(channels, affine=False), nn.Tanh())


def _none(channels: int, axes: int) -> nn.Module:
    return nn.Identity()


@dataclass(frozen=True)
class Variation:
    """Design of the plain case otherwise, so that a problem has these features and few others.

    Attributes:
        features: names of those that it is for, in FEATURES.
        parts: what is otherwise.
        kinds: of layers that it can be drawn with.
        needs: what has to be among the subject's abilities.
    """

    features: tuple[str, ...]
    parts: Mapping[str, Any]
    kinds: tuple[type[nn.Module], ...]
    needs: Callable[[Abilities], bool]

    def of(self, plain: Design) -> Design:
        """The plain case with that otherwise."""
        return replace(plain, **self.parts)

    def goes_with(self, other: "Variation") -> bool:
        """Whether the two are about different parts."""
        return not set(self.parts) & set(other.parts)


def _anything(abilities: Abilities) -> bool:
    return True


def _positions(abilities: Abilities) -> bool:
    return abilities.positions


def _sharing(abilities: Abilities) -> bool:
    return abilities.positions and abilities.shared_weights


def _biases(abilities: Abilities) -> bool:
    return abilities.bias


def _masks(abilities: Abilities) -> bool:
    return abilities.positions and abilities.masks


def _classes_at_positions(abilities: Abilities) -> bool:
    return abilities.positions and Categorical in abilities.likelihoods


def _decided(abilities: Abilities) -> bool:
    return bool({Categorical, Bernoulli} & set(abilities.likelihoods))


EVERY = tuple(OP_OF)
_LINEAR, _LOOKUP = (nn.Linear,), (nn.Embedding,)
_SQUARE = _LINEAR + ANY_CONVOLUTION  # called on their own output
_ONE_INPUT = tuple(kind for kind in EVERY if kind is not nn.Bilinear)
_UNEVEN = ((4, 1), (4, 2), (2, 2, 1))  # all of one size but the last


def _one(
    name: str,
    needs: Callable[[Abilities], bool] = _anything,
    kinds: tuple[type[nn.Module], ...] = (),
    **parts: Any,
) -> Variation:
    return Variation((name,), parts, kinds or FEATURES[name].kinds or EVERY, needs)


def _of_likelihood(kind: Any) -> Variation:
    return _one(kind.__name__, lambda can: kind in can.likelihoods, likelihood=kind())


def _of_dtype(dtype: torch.dtype) -> Variation:
    name = str(dtype).removeprefix("torch.")
    return _one(name, lambda can: dtype in can.dtypes, dtype=dtype)


_OF_LAYERS = (
    _one("no bias", bias=False),
    _one("groups", channels=_grouped),
    _one("depthwise", channels=_depthwise),
    _one("stride", _positions, stride=(2, 3)),
    _one("dilation", _positions, dilation=(2,)),
    _one("padding", _positions, padding=(1,)),
    _one("padding same, even", _positions, padding="same", extent=3, stride=(1,)),
    _one("padding same, odd", _positions, padding="same", extent=2, stride=(1,)),
    _one("padding mode", _positions, padding=(1,), mode=("circular", "replicate")),
    _one("padding by reflection", _positions, padding=(1,), mode=("reflect",)),
    _one("output padding", _positions, stride=(2, 3), output_padding=1),
    _one("padding_idx", padding_idx=0),
    _one("positions of a Linear, one axis", _positions, wiring=row_wirings.on_tokens),
    _one("positions of a Linear, several axes", _positions, wiring=row_wirings.on_a_grid),
    _one("positions of an Embedding", _positions, wiring=row_wirings.on_tokens),
    _one(
        "more positions than weights", _positions, _LINEAR, wiring=row_wirings.on_tokens, many=True
    ),
    _one(
        "more positions than weights", _positions, CONVOLUTION_KINDS, channels=ungrouped, many=True
    ),
)
_OF_WIRING = (
    # What most models have comes before what few implementations know.
    _one("dropout", activation=_dropped),
    _one("in-place activation", activation=_in_place),
    _one("BatchNorm", activation=_normed, wiring=wirings.alone),
    _one("frozen layer", wiring=wirings.with_a_frozen_layer),
    _one("frozen bias", _biases, frozen_bias=True),
    _one("convolution behind a layer", wiring=wirings.behind_another),
    _one("tokens as samples", _positions, wiring=row_wirings.folded),
    _one("tokens first", _positions, wiring=row_wirings.tokens_first),
    _one("self-attention", _positions, wiring=row_wirings.self_attention),
    _one(
        "MultiheadAttention",
        lambda can: can.positions and can.bias,  # its text would have one
        wiring=row_wirings.around_attention,
    ),
    _one("weight used beside its module", _sharing, wiring=row_wirings.used_beside),
    _one("one input for all samples", wiring=row_wirings.plus_a_constant),
    # In batches of the kit's own: a DataLoader makes a list of a tuple of inputs.
    _one(
        "several inputs",
        kinds=_LINEAR,
        wiring=row_wirings.two_branches,
        batching=batching.in_batches,
    ),
    _one("input changed in place", wiring=row_wirings.overwritten),
    _one("subclass of a layer", kinds=_LINEAR, subclass=ScaledLinear),
    _one("subclass of a layer", kinds=(nn.Conv2d,), subclass=ScaledConv2d),
    _one("called twice", _sharing, _SQUARE, wiring=wirings.called_twice, stride=(1,)),
    _one("tied weight", _sharing, _SQUARE, wiring=wirings.tied, stride=(1,)),
    _one(
        "one module, two names",
        lambda can: can.shared_weights,
        (*_SQUARE, *_LOOKUP),
        wiring=wirings.under_two_names,
    ),
    _one("parameters of no layer", activation=_with_parameter, wiring=wirings.every_layer_named),
    _one("some layers only", wiring=wirings.with_a_layer_unasked),
)
_OF_QUESTIONS = (
    # Two on which laws of their own hang: no run is too short for these.
    _one("one sample", sizes=((1,),)),
    _one("mask", _masks, wiring=row_wirings.masked),
    _one("exact Fisher", lambda can: Exact in can.fishers, fisher=Exact()),
    _one("empirical Fisher", lambda can: Empirical in can.fishers, fisher=Empirical()),
    _one("expand", lambda can: Expand in can.sharings, sharing=Expand()),
    _one("reduce", lambda can: Reduce in can.sharings, sharing=Reduce()),
    *map(_of_likelihood, (Gaussian, Categorical, Bernoulli, Poisson)),
    _one("several batches", sizes=((3, 3), (2, 2, 2))),
    _one("uneven batches", sizes=((3, 1, 2), (2, 4), (1, 3, 1))),
    *map(_of_dtype, (torch.float64, torch.float32, torch.bfloat16)),
    _one(
        "outputs at positions",
        _positions,
        (*_LINEAR, *_LOOKUP),
        wiring=row_wirings.labelled_tokens,
    ),
    _one(
        "class axis",
        _classes_at_positions,
        _ONE_INPUT,
        wiring=row_wirings.classes_second,
        likelihood=Categorical(class_axis=1),
    ),
    _one("ignored labels", lambda can: Categorical in can.likelihoods, ignored=True),
    _one("fewer rows than inputs", sizes=((2,),), channels=_wide),
    _one("saturated", _decided, saturated=True, activation=_none),
)
_OF_DATA = (
    _one(
        "mask in some batches",
        _masks,
        wiring=row_wirings.masked_in_the_middle,
        sizes=((2, 2, 1), (2, 2, 2)),
        batching=batching.masked_where_padded,
    ),
    _one("DataLoader", kinds=_ONE_INPUT, sizes=_UNEVEN, batching=batching.in_a_loader),
    _one(
        "DataLoader, drop_last",
        kinds=_ONE_INPUT,
        sizes=((2, 2, 1), (4, 2)),
        batching=batching.in_a_dropping_loader,
    ),
)
# Those with one thing special about them, in the order in which they are drawn.
VARIATIONS = (*_OF_QUESTIONS, *_OF_LAYERS, *_OF_WIRING, *_OF_DATA)
# Two at once that no two of these make, since both are about the wiring.
OF_TWO = (
    Variation(
        ("mask", "called twice"),
        {"wiring": row_wirings.masked_and_called_twice},
        _LINEAR,
        lambda can: _masks(can) and can.shared_weights,
    ),
    Variation(
        ("called twice", "one module, two names"),
        {"wiring": wirings.under_two_names_called_twice},
        _SQUARE,
        _sharing,
    ),
)
