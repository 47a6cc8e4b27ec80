"""Mistakes in the patches of an image that a convolution sees: stride, padding, groups."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.layers import LayerObservation, with_inputs, with_layers
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.model.weights.layer_kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution's geometry: numbers of pixels, and what lies beyond the edges."""

    size: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    left: int  # padding, and how much of it on the right
    right: int
    mode: str  # "zeros", "circular", "replicate"

    @property
    def remainder(self) -> int:
        """Inputs behind the last patch."""
        reach = self.dilation * (self.kernel - 1) + 1
        return (self.size + self.left + self.right - reach) % self.stride

    def index(self) -> Tensor:
        """Where in the input tap k of output p lies, [outputs, kernel]; outside: a zero."""
        p, k = torch.arange(self.outputs)[:, None], torch.arange(self.kernel)
        index = p * self.stride + k * self.dilation - self.left
        if self.mode == "circular":
            return index % self.size
        if self.mode == "reflect":
            return self.size - 1 - (self.size - 1 - index.abs()).abs()
        return index.clamp(0, self.size - 1) if self.mode == "replicate" else index


def axes_of(conv: Any, size: tuple[int, ...]) -> list[Axis]:
    """The geometry of a convolution on images of a size."""
    padding = conv._reversed_padding_repeated_twice
    sides = [(padding[-2 - 2 * i], padding[-1 - 2 * i]) for i in range(len(size))]
    rows = zip(size, conv.kernel_size, conv.stride, conv.dilation, sides, strict=True)
    return [
        Axis(n, (n + sum(side) - d * (k - 1) - 1) // s + 1, k, s, d, *side, conv.padding_mode)
        for n, k, s, d, side in rows
    ]


def _patches(x: Tensor, indices: list[Tensor]) -> Tensor:
    """[N, C, *size] to [N, T, C, K]: T counts output positions and K taps, both by rows."""
    for axis, index in enumerate(indices):
        at = 2 + 2 * axis  # every axis before became two
        size = x.shape[at]
        x = torch.cat([x, torch.zeros_like(x.narrow(at, 0, 1))], at)
        inside = (index >= 0) & (index < size)
        x = x.index_select(at, index.where(inside, size).flatten()).unflatten(at, index.shape)
    outputs, taps = range(2, x.dim(), 2), range(3, x.dim(), 2)
    x = x.permute(0, *outputs, 1, *taps)
    return x.flatten(1, len(indices)).flatten(3)


def _unfolding(
    change: Callable[[Axis, Axis], Axis] = lambda axis, first: axis,
    group: Callable[[int], int] = lambda k: k,
    index: Callable[[Tensor], Tensor] = lambda index: index,
) -> Ask:
    """An implementation with an unfold of its own for convolutions; an axis is told the first."""

    def inputs(here: LayerObservation) -> list[Tensor]:
        x = torch.cat([batch[0] for batch in here.inputs])
        x = x.chunk(here.layer.groups, 1)[group(here.group)]
        axes = axes_of(here.module, here.image_size)
        a = _patches(x, [index(change(axis, axes[0]).index()) for axis in axes]).flatten(2)
        return list(F.pad(a, (0, 1), value=1.0) if here.has_bias() else a)

    # A convolution that is called twice is seen at two sizes: that one it leaves as it is.
    return with_inputs(inputs, lambda here: here.layer.op in CONVOLUTIONS and here.uses == 1)


def _like_the_first(axis: Axis, first: Axis) -> Axis:
    return replace(axis, stride=first.stride, dilation=first.dilation, left=first.left)


def _without_output_padding(here: LayerObservation) -> list[Tensor]:
    """Nothing at the outputs that only output_padding adds."""
    conv = here.module
    geometry = (conv.stride, conv.padding, conv.dilation, conv.kernel_size, conv.output_padding)
    full = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(here.image_size, *geometry, strict=True)
    ]
    kept = torch.ones(full)
    for axis, (size, extra) in enumerate(zip(full, conv.output_padding, strict=True)):
        kept.narrow(axis, size - extra, extra).zero_()
    return [a * kept.reshape(-1, 1) for a in here.seen.a]


def _input_positions(here: LayerObservation) -> Observation:
    """A over the positions of the image that goes in."""
    if here.layer.op not in CONVOLUTIONS:
        return here.seen
    ratio = len(here.seen.a[0]) / prod(here.image_size)
    return replace(here.seen, a=[a * ratio**0.5 for a in here.seen.a])


_mutant = partial(Mutant, laws=("eigenvalues", "self-projection"))

PATCHES = (
    _mutant(
        name="dilation-forgotten",
        mistake="unfolds images without dilation (right: with the convolution's)",
        story="opacus#137.",
        ekfac=_unfolding(lambda axis, _: replace(axis, dilation=1)),
        only="a dilated convolution",
    ),
    _mutant(
        name="padding-forgotten",
        mistake="unfolds images without padding (right: with the convolution's)",
        story="opacus#1; here the patches are cut to as many as there are outputs.",
        ekfac=_unfolding(lambda axis, _: replace(axis, left=0)),
        only="a padded convolution",
    ),
    _mutant(
        name="stride-forgotten",
        mistake="unfolds images with stride 1 (right: with the convolution's)",
        story="opacus#1; here the first patches are taken, as many as there are outputs.",
        ekfac=_unfolding(lambda axis, _: replace(axis, stride=1)),
        only="a convolution with a stride and two outputs or more",
    ),
    _mutant(
        name="stride-for-dilation",
        mistake="unfolds images with stride and dilation exchanged (right: each in its place)",
        story="F.unfold takes dilation before stride, F.conv2d after it, both by position.",
        ekfac=_unfolding(lambda axis, _: replace(axis, stride=axis.dilation, dilation=axis.stride)),
        only="a stride that is not the dilation",
    ),
    _mutant(
        name="first-axis-for-all",
        mistake="uses the first axis's stride, dilation and padding for all (right: each its own)",
        story="conv.stride[0], from the days of square images.",
        ekfac=_unfolding(_like_the_first),
        only="a convolution with axes that differ",
    ),
    _mutant(
        name="padded-with-zeros",
        mistake="pads images with zeros (right: as padding_mode says)",
        story="The unfold of torch knows no other padding.",
        ekfac=_unfolding(lambda axis, _: replace(axis, mode="zeros")),
        only="padding_mode other than zeros",
    ),
    _mutant(
        name="padded-from-the-right",
        mistake="puts the odd zero of padding='same' on the left (right: on the right)",
        story="padding='same' with an even kernel is not symmetric: opacus#450.",
        ekfac=_unfolding(lambda axis, _: replace(axis, left=axis.right, right=axis.left)),
        only="padding='same' of an odd total",
    ),
    _mutant(
        name="patches-from-the-far-edge",
        mistake="leaves out the first inputs where the stride leaves a remainder (right: the last)",
        story="The gradient of a kernel by a convolution has to be cut where the stride does not "
        "divide: backpack@368786c3, opacus#245. Here it is cut at the other end.",
        ekfac=_unfolding(lambda axis, _: replace(axis, left=axis.left - axis.remainder)),
        only="a convolution whose stride leaves a remainder",
    ),
    _mutant(
        name="output-padding-forgotten",
        mistake="sees no more outputs of a transposed convolution than there are without "
        "output_padding (right: all)",
        story="Several sizes fit a strided convolution, and its transpose takes the smallest if "
        "it is not told: backpack@a0d4da99.",
        ekfac=with_inputs(
            _without_output_padding,
            lambda here: here.layer.op in TRANSPOSED_CONVOLUTIONS and here.uses == 1,
        ),
        laws=("trace", "eigenvalues"),
        only="a transposed convolution with output_padding",
    ),
    _mutant(
        name="kernel-reversed",
        mistake="reads patches backward (right: torch's convolutions do not turn the kernel)",
        story="Convolution by the textbook, correlation by torch.",
        ekfac=_unfolding(index=lambda index: index.flip(1)),
        only="a kernel larger than one",
    ),
    _mutant(
        name="inputs-of-first-group",
        mistake="gives every group the channels of the first (right: its own)",
        story="groups read nowhere: backpack#161 and three more.",
        ekfac=_unfolding(group=lambda k: 0),
        only="a convolution with groups",
    ),
    _mutant(
        name="input-positions-in-A",
        mistake="divides A by the positions of the layer's input (right: of its output)",
        story="pytorch-a2c-ppo-acktr-gail#54, where KFAC's product of factors was off by it.",
        ekfac=with_layers(_input_positions),
        laws=(),
        only="a convolution that changes the size of images",
        proof="A times a number has A's eigenvectors, and nothing else of A goes into EKFAC.",
    ),
)
