"""Mistakes in the patches of an image that a convolution sees: stride, padding, groups."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.places import Sight, has_bias, hooked, of_inputs, on_sight
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.model.layer_kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution's geometry."""

    size: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    left: int
    right: int
    mode: str

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
        return index.clamp(0, self.size - 1) if self.mode == "replicate" else index


def axes_of(conv: Any, size: tuple[int, ...]) -> list[Axis]:
    """The geometry of a convolution on images of a size."""
    padding = conv._reversed_padding_repeated_twice
    sides = [(padding[-2 - 2 * i], padding[-1 - 2 * i]) for i in range(len(size))]
    rows = zip(size, conv.kernel_size, conv.stride, conv.dilation, sides, strict=True)
    return [
        Axis(n, (n + left + right - d * (k - 1) - 1) // s + 1, k, s, d, left, right, mode)
        for n, k, s, d, (left, right) in rows
        for mode in [conv.padding_mode]
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
    geometry: Callable[[list[Axis]], list[Axis]] = lambda axes: axes,
    group: Callable[[int], int] = lambda k: k,
    index: Callable[[Tensor], Tensor] = lambda index: index,
) -> Ask:
    """An implementation with an unfold of its own for convolutions."""

    def inputs(sight: Sight) -> list[Tensor]:
        x = torch.cat([batch[0] for batch in hooked(sight.problem, sight.layer)])
        x = x.chunk(sight.layer.groups, 1)[group(sight.group)]
        axes = geometry(axes_of(sight.module, tuple(x.shape[2:])))
        a = _patches(x, [index(axis.index()) for axis in axes]).flatten(2)
        return list(F.pad(a, (0, 1), value=1.0) if has_bias(sight) else a)

    return of_inputs(inputs, lambda sight: sight.layer.op in CONVOLUTIONS)


def _each(**options: Any) -> Callable[[list[Axis]], list[Axis]]:
    return lambda axes: [replace(axis, **options) for axis in axes]


def _swapped(axes: list[Axis]) -> list[Axis]:
    return [replace(axis, stride=axis.dilation, dilation=axis.stride) for axis in axes]


def _like_the_first(axes: list[Axis]) -> list[Axis]:
    one = axes[0]
    return [replace(axis, stride=one.stride, dilation=one.dilation, left=one.left) for axis in axes]


def _padded_from_the_right(axes: list[Axis]) -> list[Axis]:
    return [replace(axis, left=axis.right, right=axis.left) for axis in axes]


def _from_the_far_edge(axes: list[Axis]) -> list[Axis]:
    return [replace(axis, left=axis.left - axis.remainder) for axis in axes]


def _without_output_padding(sight: Sight) -> list[Tensor]:
    """Nothing at the outputs that only output_padding adds."""
    conv, sizes = sight.module, sight.image
    full = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(
            sizes,
            *(conv.stride, conv.padding, conv.dilation, conv.kernel_size, conv.output_padding),
            strict=True,
        )
    ]
    kept = torch.ones(full)
    for axis, (size, extra) in enumerate(zip(full, conv.output_padding, strict=True)):
        kept.narrow(axis, size - extra, extra).zero_()
    return [a * kept.reshape(-1, 1) for a in sight.seen.a]


def _input_positions(sight: Sight) -> Observation:
    """A over the positions of the image that goes in."""
    if sight.layer.op not in CONVOLUTIONS:
        return sight.seen
    x = hooked(sight.problem, sight.layer)[0][0]
    ratio = len(sight.seen.a[0]) / x[0, 0].numel()
    return replace(sight.seen, a=[a * ratio**0.5 for a in sight.seen.a])


PATCHES = (
    Mutant(
        name="dilation-forgotten",
        mistake="unfolds images without dilation (right: with the convolution's)",
        story="opacus#137.",
        ekfac=_unfolding(_each(dilation=1)),
        laws=("eigenvalues", "self-projection"),
        only="a dilated convolution",
    ),
    Mutant(
        name="padding-forgotten",
        mistake="unfolds images without padding (right: with the convolution's)",
        story="opacus#1; here the patches are cut to as many as there are outputs.",
        ekfac=_unfolding(_each(left=0)),
        laws=("eigenvalues", "self-projection"),
        only="a padded convolution",
    ),
    Mutant(
        name="stride-forgotten",
        mistake="unfolds images with stride 1 (right: with the convolution's)",
        story="opacus#1; here the first patches are taken, as many as there are outputs.",
        ekfac=_unfolding(_each(stride=1)),
        laws=("eigenvalues", "self-projection"),
        only="a convolution with a stride and two outputs or more",
    ),
    Mutant(
        name="stride-for-dilation",
        mistake="unfolds images with stride and dilation exchanged (right: each in its place)",
        story="F.unfold takes dilation before stride, F.conv2d after it, both by position.",
        ekfac=_unfolding(_swapped),
        laws=("eigenvalues", "self-projection"),
        only="a stride that is not the dilation",
    ),
    Mutant(
        name="first-axis-for-all",
        mistake="uses the first axis's stride, dilation and padding for all (right: each its own)",
        story="conv.stride[0], from the days of square images.",
        ekfac=_unfolding(_like_the_first),
        laws=("eigenvalues", "self-projection"),
        only="a convolution with axes that differ",
    ),
    Mutant(
        name="padded-with-zeros",
        mistake="pads images with zeros (right: as padding_mode says)",
        story="The unfold of torch knows no other padding.",
        ekfac=_unfolding(_each(mode="zeros")),
        laws=("eigenvalues", "self-projection"),
        only="padding_mode other than zeros",
    ),
    Mutant(
        name="padded-from-the-right",
        mistake="puts the odd zero of padding='same' on the left (right: on the right)",
        story="padding='same' with an even kernel is not symmetric: opacus#450.",
        ekfac=_unfolding(_padded_from_the_right),
        laws=("eigenvalues", "self-projection"),
        only="padding='same' of an odd total",
    ),
    Mutant(
        name="patches-from-the-far-edge",
        mistake="leaves out the first inputs where the stride leaves a remainder (right: the last)",
        story="The gradient of a kernel by a convolution has to be cut where the stride does not "
        "divide: backpack@368786c3, opacus#245. Here it is cut at the other end.",
        ekfac=_unfolding(_from_the_far_edge),
        laws=("eigenvalues", "self-projection"),
        only="a convolution whose stride leaves a remainder",
    ),
    Mutant(
        name="output-padding-forgotten",
        mistake="sees no more outputs of a transposed convolution than there are without "
        "output_padding (right: all)",
        story="Several sizes fit a strided convolution, and its transpose takes the smallest if "
        "it is not told: backpack@a0d4da99.",
        ekfac=of_inputs(
            _without_output_padding, lambda sight: sight.layer.op in TRANSPOSED_CONVOLUTIONS
        ),
        laws=("trace", "eigenvalues"),
        only="a transposed convolution with output_padding",
    ),
    Mutant(
        name="kernel-reversed",
        mistake="reads patches backward (right: torch's convolutions do not turn the kernel)",
        story="Convolution by the textbook, correlation by torch.",
        ekfac=_unfolding(index=lambda index: index.flip(1)),
        laws=("eigenvalues", "self-projection"),
        only="a kernel larger than one",
    ),
    Mutant(
        name="inputs-of-first-group",
        mistake="gives every group the channels of the first (right: its own)",
        story="groups read nowhere: backpack#161 and three more.",
        ekfac=_unfolding(group=lambda k: 0),
        laws=("eigenvalues", "self-projection"),
        only="a convolution with groups",
    ),
    Mutant(
        name="input-positions-in-A",
        mistake="divides A by the positions of the layer's input (right: of its output)",
        story="pytorch-a2c-ppo-acktr-gail#54, where KFAC's product of factors was off by it.",
        ekfac=on_sight(_input_positions),
        laws=(),
        only="a convolution that changes the size of images",
        proof="A times a number has A's eigenvectors, and nothing else of A goes into EKFAC.",
    ),
)
