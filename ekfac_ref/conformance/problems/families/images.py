"""Families of networks that begin with a convolution, every axis with a geometry of its own.

Equal strides and dilations, equal paddings and odd kernels hide a family of mistakes each, and so
do single output positions and strides that leave nothing over.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ekfac_ref.conformance.problems.choices import BOTH, Draw
from ekfac_ref.conformance.problems.families.pieces import activation, head
from ekfac_ref.conformance.problems.networks import Network

_CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_AXES = _ANY_STRIDE = (1, 2, 3)
_EXTENTS = {1: (2, 1, 3), 2: (2, 1, 3), 3: (1, 2)}
_ONE_OR_TWO, _NONE_OR_ONE = (1, 2), (0, 1)
_CHANNELS = ((1, 1), (2, 2), (2, 1), (2, 2), (1, 2))  # in and out
_STRIDES = (2, 3)


def convolutions(draw: Draw, K: int) -> Network:
    """A convolution of any stride, dilation and zero padding that may leave inputs over."""
    axes = draw(_AXES)
    kernel, dilation = _per_axis(draw, axes, _EXTENTS[axes]), _per_axis(draw, axes, _ONE_OR_TWO)
    stride = _per_axis(draw, axes, _ANY_STRIDE, last=_STRIDES)
    padding = _per_axis(draw, axes, _NONE_OR_ONE)
    reach = _reach(kernel, dilation)
    # Up to two outputs to an axis, two on the last, and any number of inputs left over.
    more = [draw(range(2 * s)) for s in stride[:-1]]
    more += [stride[-1] + draw((1, 0, 1, stride[-1] - 1))]
    size = [max(1, r - 2 * p + n) for r, p, n in zip(reach, padding, more, strict=True)]
    by_axis = list(zip(size, padding, reach, stride, strict=True))
    corners = {"remainder"} if any((n + 2 * p - r) % s for n, p, r, s in by_axis) else set()
    if any(len({s, d, p}) == 3 for s, d, p in zip(stride, dilation, padding, strict=True)):
        corners |= {"stride != dilation != padding"}
    options = {"dilation": dilation, "stride": stride, "padding": padding}
    return _network(draw, K, _CONV, kernel, size, options, corners)


def same(draw: Draw, K: int) -> Network:
    """A convolution padded with zeros to the same size, by an odd number on the last axis."""
    axes = draw(_AXES)
    kernel = _per_axis(draw, axes, _EXTENTS[axes], last=(2,))
    dilation = _per_axis(draw, axes, _ONE_OR_TWO, last=(1, 3))
    size = list(_per_axis(draw, axes, _ONE_OR_TWO, last=(2, 3)))
    options = {"padding": "same", "dilation": dilation}
    return _network(draw, K, _CONV, kernel, size, options, {"padding same"})


def wrapped(draw: Draw, K: int) -> Network:
    """A convolution of an image that is padded with its own pixels."""
    axes = draw(_AXES)
    kernel = _per_axis(draw, axes, _EXTENTS[axes])
    padding = _per_axis(draw, axes, _NONE_OR_ONE, last=(1,))
    # An image is at least as wide as what circular padding takes from it.
    more = _per_axis(draw, axes, _NONE_OR_ONE)
    size = [max(k - p, 1) + n for k, p, n in zip(kernel, padding, more, strict=True)]
    mode = draw(("circular", "replicate"))
    options = {"padding": padding, "padding_mode": mode}
    return _network(draw, K, _CONV, kernel, size, options, {"padding mode"})


def transposed(draw: Draw, K: int) -> Network:
    """A transposed convolution of any stride, dilation and padding; output padding on one axis."""
    axes = draw(_AXES)
    kernel, dilation = _per_axis(draw, axes, _EXTENTS[axes]), _per_axis(draw, axes, _ONE_OR_TWO)
    stride = _per_axis(draw, axes, _ANY_STRIDE, last=_STRIDES)
    # What would be cut off is what output padding brings back: so both are on the last axis.
    padding = _per_axis(draw, axes, _NONE_OR_ONE, last=(1,))
    reach = _reach(kernel, dilation)
    limit = [max(s, d) - 1 for s, d in zip(stride[:-1], dilation[:-1], strict=True)]
    extra = (*(draw(range(min(1, most) + 1)) for most in limit), 1)
    size = [draw(_ONE_OR_TWO if axes < 3 else (1,)) for _ in kernel]
    # At least one output must be left on every axis.
    size = [max(n, 2 * p + 2 - r) for n, p, r in zip(size, padding, reach, strict=True)]
    options: dict[str, Any] = {"dilation": dilation, "stride": stride, "padding": padding}
    options |= {"output_padding": extra}
    return _network(draw, K, _TRANSPOSED, kernel, size, options, {"output padding"})


def _per_axis(
    draw: Draw, axes: int, numbers: Sequence[int], last: Sequence[int] | None = None
) -> tuple[int, ...]:
    """One of the numbers for every axis; the last may have others to choose from."""
    return (*(draw(numbers) for _ in range(axes - 1)), draw(numbers if last is None else last))


def _reach(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    return [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]


def _network(
    draw: Draw,
    K: int,
    kinds: dict[int, type[nn.Module]],
    kernel: tuple[int, ...],
    size: list[int],
    options: dict[str, Any],
    corners: set[str],
) -> Network:
    """The convolution, then a Linear on all that is left."""
    groups = draw((1, 1, 2, 3))
    # Two and two, or there is nothing to transpose.
    each_in, each_out = (2, 2) if kinds is _TRANSPOSED else draw(_CHANNELS)
    c_in, c_out = groups * each_in, groups * each_out
    bias = draw(BOTH)
    layer = kinds[len(kernel)](c_in, c_out, kernel, groups=groups, bias=bias, **options)
    corners = corners | {"images", "bias" if bias else "no bias"}
    corners |= {f"conv_transpose{len(kernel)}d" if kinds is _TRANSPOSED else f"conv{len(kernel)}d"}
    corners |= {"groups"} if groups > 1 else set()
    corners |= {"depthwise"} if groups == c_in > 1 else set()
    corners |= {"even kernel"} if any(k % 2 == 0 for k in kernel) else set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that odd padding takes a copy
        left = layer(torch.zeros(1, c_in, *size))
    corners |= {"T > 1"} if left[0, 0].numel() > 1 else set()
    module, more = activation(draw)
    last, shared = head(draw, left.numel(), K)
    return Network(
        nn.Sequential(layer, module, nn.Flatten(), last),
        lambda n, fill: fill(n, c_in, *size),
        (),
        frozenset(corners) | more | shared,
    )
