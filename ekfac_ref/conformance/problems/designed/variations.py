"""Everything special that a problem may have, as a change of some parts of the plain case."""

from typing import Any

import torch
from torch import nn

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed import batching, row_wirings, wirings
from ekfac_ref.conformance.problems.designed.design import Channels
from ekfac_ref.conformance.problems.designed.geometries import OF_GEOMETRY, UNEVEN_AT_ONCE
from ekfac_ref.conformance.problems.designed.variation import (
    EVERY,
    Variation,
    varied,
    with_positions,
)
from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION
from ekfac_ref.conformance.problems.networks import Gain, ScaledConv2d, ScaledLinear
from ekfac_ref.question.columns import Empirical, Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.question.sharing import Expand, Reduce


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


_LINEAR, _LOOKUP = (nn.Linear,), (nn.Embedding,)
_SQUARE = _LINEAR + ANY_CONVOLUTION  # called on their own output
_ONE_INPUT = tuple(kind for kind in EVERY if kind is not nn.Bilinear)
_UNEVEN = ((4, 1), (4, 2), (2, 2, 1))  # all of one size but the last


def _of_likelihood(kind: Any) -> Variation:
    return varied(kind.__name__, lambda can: kind in can.likelihoods, likelihood=kind())


def _of_dtype(dtype: torch.dtype) -> Variation:
    name = str(dtype).removeprefix("torch.")
    return varied(name, lambda can: dtype in can.dtypes, dtype=dtype)


_OF_LAYERS = (
    varied("no bias", bias=False),
    *OF_GEOMETRY,
    varied("padding_idx", padding_idx=0),
    varied("positions of a Linear, one axis", with_positions, wiring=row_wirings.on_tokens),
    varied("positions of a Linear, several axes", with_positions, wiring=row_wirings.on_a_grid),
    varied("positions of an Embedding", with_positions, wiring=row_wirings.on_tokens),
    varied(
        "more positions than weights",
        with_positions,
        _LINEAR,
        wiring=row_wirings.on_tokens,
        many=True,
    ),
)
_OF_WIRING = (
    # What most models have comes before what few implementations know.
    varied("dropout", activation=_dropped),
    varied("in-place activation", activation=_in_place),
    varied("BatchNorm", activation=_normed, wiring=wirings.alone),
    varied("frozen layer", wiring=wirings.with_a_frozen_layer),
    varied("frozen bias", _biases, frozen_bias=True),
    varied("convolution behind a layer", wiring=wirings.behind_another),
    varied("tokens as samples", with_positions, wiring=row_wirings.folded),
    varied("tokens first", with_positions, wiring=row_wirings.tokens_first),
    varied("self-attention", with_positions, wiring=row_wirings.self_attention),
    varied(
        "MultiheadAttention",
        lambda can: can.positions and can.bias,  # its text would have one
        wiring=row_wirings.around_attention,
    ),
    varied("weight used beside its module", _sharing, wiring=row_wirings.used_beside),
    varied("one input for all samples", wiring=row_wirings.plus_a_constant),
    # In batches of the kit's own: a DataLoader makes a list of a tuple of inputs.
    varied(
        "several inputs",
        kinds=_LINEAR,
        wiring=row_wirings.two_branches,
        batching=batching.in_batches,
    ),
    varied("input changed in place", wiring=row_wirings.overwritten),
    varied("subclass of a layer", kinds=_LINEAR, subclass=ScaledLinear),
    varied("subclass of a layer", kinds=(nn.Conv2d,), subclass=ScaledConv2d),
    varied("called twice", _sharing, _SQUARE, wiring=wirings.called_twice, stride=(1,)),
    varied("tied weight", _sharing, _SQUARE, wiring=wirings.tied, stride=(1,)),
    varied(
        "one module, two names",
        lambda can: can.shared_weights,
        (*_SQUARE, *_LOOKUP),
        wiring=wirings.under_two_names,
    ),
    varied("parameters of no layer", activation=_with_parameter, wiring=wirings.every_layer_named),
    varied("some layers only", wiring=wirings.with_a_layer_unasked),
)
_OF_QUESTIONS = (
    # Two on which laws of their own hang: no run is too short for these.
    varied("one sample", sizes=((1,),)),
    varied("mask", _masks, wiring=row_wirings.masked),
    varied("exact Fisher", lambda can: Exact in can.fishers, fisher=Exact()),
    varied("empirical Fisher", lambda can: Empirical in can.fishers, fisher=Empirical()),
    varied("expand", lambda can: Expand in can.sharings, sharing=Expand()),
    varied("reduce", lambda can: Reduce in can.sharings, sharing=Reduce()),
    *map(_of_likelihood, (Gaussian, Categorical, Bernoulli, Poisson)),
    varied("several batches", sizes=((3, 3), (2, 2, 2))),
    varied("uneven batches", sizes=((3, 1, 2), (2, 4), (1, 3, 1))),
    *map(_of_dtype, (torch.float64, torch.float32, torch.bfloat16)),
    varied(
        "outputs at positions",
        with_positions,
        (*_LINEAR, *_LOOKUP),
        wiring=row_wirings.labelled_tokens,
    ),
    varied(
        "class axis",
        _classes_at_positions,
        _ONE_INPUT,
        wiring=row_wirings.classes_second,
        likelihood=Categorical(class_axis=1),
    ),
    varied("ignored labels", lambda can: Categorical in can.likelihoods, ignored=True),
    varied("fewer rows than inputs", sizes=((2,),), channels=_wide),
    varied("saturated", _decided, saturated=True, activation=_none),
)
_OF_DATA = (
    varied(
        "mask in some batches",
        _masks,
        wiring=row_wirings.masked_in_the_middle,
        sizes=((2, 2, 1), (2, 2, 2)),
        batching=batching.masked_where_padded,
    ),
    varied("DataLoader", kinds=_ONE_INPUT, sizes=_UNEVEN, batching=batching.in_a_loader),
    varied(
        "DataLoader, drop_last",
        kinds=_ONE_INPUT,
        sizes=((2, 2, 1), (4, 2)),
        batching=batching.in_a_dropping_loader,
    ),
)
# Those with one thing special about them, in the order in which they are drawn.
VARIATIONS = (*_OF_QUESTIONS, *_OF_LAYERS, *_OF_WIRING, *_OF_DATA)
# Several at once that no two of these make: both are about the wiring, or there are three.
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
    *UNEVEN_AT_ONCE,
)
