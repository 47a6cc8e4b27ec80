"""A layer of small sizes, other ones on every axis, and the shape of one sample's input to it."""

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import nn

from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed.design import ByAxis, Design
from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION
from ekfac_ref.conformance.problems.features import TRANSPOSED_KINDS

Shape = tuple[int, ...]
# By the number of axes: kernels, output positions, more of those than weights; kernels and input
# positions of a transposed convolution, and how many output positions it has at the least.
_Choices = dict[int, tuple[Shape, ...]]
_KERNELS: _Choices = {1: ((2,), (3,)), 2: ((2, 2), (1, 3)), 3: ((2, 1, 2), (1, 2, 2))}
_OUTPUTS: _Choices = {1: ((3,), (2,)), 2: ((2, 2), (1, 2)), 3: ((1, 1, 2), (1, 2, 2))}
_MANY: dict[int, Shape] = {1: (5,), 2: (3, 2), 3: (1, 3, 2)}
_TRANSPOSED_KERNELS: _Choices = {1: ((2,), (3,)), 2: ((2, 2), (1, 2)), 3: ((1, 2, 2), (1, 1, 2))}
_INPUTS: _Choices = {1: ((2,),), 2: ((1, 2), (2, 2)), 3: ((1, 1, 2), (1, 2, 2))}
_LEAST: dict[int, Shape] = {1: (2,), 2: (1, 2), 3: (1, 1, 2)}


def small_linear(design: Design, draw: Draw, square: bool = False) -> nn.Linear:
    """A Linear or the subclass that stands for it; as many outputs as inputs if square."""
    i, o = draw(((3, 2), (2, 3), (3, 4), (2, 4))) if not design.many else (2, 2)
    return _of(design, nn.Linear)(i, i if square else o, bias=design.bias)


def small_bilinear(design: Design, draw: Draw) -> nn.Bilinear:
    """A Bilinear, of no more weights to an output than there are samples in the plain case."""
    i, j, o = draw(((2, 2, 3), (1, 3, 2), (3, 1, 4)))
    return nn.Bilinear(i, j, o, bias=design.bias)


def small_embedding(design: Design, draw: Draw) -> nn.Embedding:
    """An Embedding of three or four words."""
    words, d = draw(((3, 4), (4, 3), (3, 3)))
    return nn.Embedding(words, d, padding_idx=design.padding_idx)


def small_convolution(
    design: Design, draw: Draw, square: bool = False, twice: bool = False
) -> tuple[nn.Module, Shape]:
    """A convolution, transposed or not, and the shape of its input.

    Args:
        design: its options.
        draw: of kernel, channels, and what is left over by a stride.
        square: whether it has as many channels behind as before it.
        twice: whether its input is to be large enough for calling it on its own output.
    """
    axes = 1 + ANY_CONVOLUTION.index(design.kind) % 3
    transposed = design.kind in TRANSPOSED_KINDS
    groups, i, o = (1, 1, 2) if design.many else design.channels(draw)
    i = max(i, 2) if square and groups == 1 else i
    kernel = _kernel(design, draw, axes)
    options: dict[str, Any] = {
        "stride": _per_axis(draw, axes, design.stride, 1),
        "dilation": _per_axis(draw, axes, design.dilation, 1),
        "padding": design.padding,
    }
    if not isinstance(design.padding, str):
        options["padding"] = _per_axis(draw, axes, design.padding, 0)
    if not transposed:
        options["padding_mode"] = draw(design.mode)
    if design.output_padding:
        options["output_padding"] = (*[0] * (axes - 1), design.output_padding)
    channels = (groups * i, groups * (i if square else o))
    layer = _of(design, design.kind)(*channels, kernel, groups=groups, bias=design.bias, **options)
    sizes = _on_every_axis(design, (_INPUTS if transposed else _OUTPUTS)[axes])
    size = _MANY[axes] if design.many else draw(sizes[:1] if transposed else sizes)
    size = size if design.positions else (1,) * axes
    if transposed and design.positions:
        size = tuple(
            max(n, 2 * p + least - d * (k - 1))
            for n, p, d, k, least in zip(
                size, layer.padding, layer.dilation, kernel, _LEAST[axes], strict=True
            )
        )
    for _ in range(0 if transposed else 2 if twice else 1):
        size = _input_size(layer, size, draw)
    return layer, (channels[0], *size)


def flat_outputs(layer: nn.Module, shape: Shape) -> int:
    """How many numbers come out of the layer for one sample of this shape."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that odd padding takes a copy
        return prod(layer(torch.zeros(1, *shape)).shape)


def _of(design: Design, kind: type[nn.Module]) -> Any:
    return design.subclass or kind


def _kernel(design: Design, draw: Draw, axes: int) -> Shape:
    if design.kind in TRANSPOSED_KINDS and not design.positions:
        return (1,) * axes
    extent = 2 if design.many else design.extent
    if extent is not None:
        return (*[1] * (axes - 1), extent)
    kernels = _TRANSPOSED_KERNELS if design.kind in TRANSPOSED_KINDS else _KERNELS
    return draw(_on_every_axis(design, kernels[axes]))


def _on_every_axis(design: Design, shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
    """Those in which an option of the last two axes shows on both, where that matters.

    Where a kernel is 1 wide, padding makes many positions of nothing but the bias.
    """
    padded = design.padding not in ((0,), "same")
    by_axis = (*design.stride, *design.dilation, *design.padding)
    if not padded and all(not isinstance(one, tuple) for one in by_axis):
        return shapes
    return tuple(shape for shape in shapes if 1 not in shape[-2:])


def _per_axis(draw: Draw, axes: int, options: Sequence[ByAxis], none: int) -> Shape:
    """One of the options: a number is for all axes, two are for the last two, or for the last."""
    chosen = draw(options)
    if isinstance(chosen, int):
        return (chosen,) * axes
    return (*[none] * (axes - 2), *chosen)[-axes:]


def _input_size(layer: Any, outputs: Shape, draw: Draw) -> Shape:
    """What it takes for so many outputs, and a remainder where the stride leaves one over."""
    if layer.padding == "same":  # on the last axis: who takes the image for the kernel is seen
        return (*[1] * (len(outputs) - 1), layer.kernel_size[-1] + 2)
    reflects = layer.padding_mode == "reflect"  # and gives one pixel less than it has
    by_axis = zip(
        outputs, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True
    )
    return tuple(
        max(1, p + reflects * (p > 0), d * (k - 1) + 1 + (n - 1) * s - 2 * p + draw(range(s)))
        for n, k, s, d, p in by_axis
    )
