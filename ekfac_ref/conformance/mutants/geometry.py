"""Mistakes in what a layer's inputs are: biases, patches, uses of a weight, positions, masks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ekfac_ref.conformance.memory import remembered
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.mutants.samples import with_inputs
from ekfac_ref.conformance.observation import Observation, in_float64
from ekfac_ref.conformance.subject import Ask
from ekfac_ref.forward import call
from ekfac_ref.layers import Layer, find_layers
from ekfac_ref.likelihoods import Categorical
from ekfac_ref.linear_form import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from ekfac_ref.problem import Problem


@dataclass(frozen=True, eq=False)
class _Sight:
    """What one layer (group) saw, and where that comes from."""

    problem: Problem
    layers: tuple[Layer, ...]
    layer: Layer
    group: int
    seen: Observation

    @property
    def module(self) -> Any:
        return self.problem.model.get_submodule(self.layer.name)

    @property
    def uses(self) -> int:
        """How often the forward pass uses the weight."""
        return len(_hooked(self.problem, self.layer)[0])


def _sights(change: Callable[[_Sight], Observation]) -> Ask:
    """The correct algebra on changed observations, layer by layer."""

    def look(problem: Problem) -> dict[str, list[Observation]]:
        layers = find_layers(problem.model, problem.layers)
        right = remembered(problem)
        return {
            layer.name: [
                change(_Sight(problem, layers, layer, k, seen))
                for k, seen in enumerate(right[layer.name])
            ]
            for layer in layers
        }

    return replace(CORRECT, look=look).ekfac


def _inputs(
    change: Callable[[_Sight], list[Tensor]], applies: Callable[[_Sight], bool] = lambda s: True
) -> Ask:
    """Other inputs, and the gradients that follow from them."""

    def changed(sight: _Sight) -> Observation:
        return with_inputs(sight.seen, change(sight)) if applies(sight) else sight.seen

    return _sights(changed)


def _hooked(problem: Problem, layer: Layer) -> list[list[Tensor]]:
    """The first input of every use of the layer as hooks see it, batch by batch, in float64."""
    problem = in_float64(problem)
    weight = problem.model.get_parameter(layer.parameters[0])
    owners = [m for m in problem.model.modules() if getattr(m, "weight", None) is weight]
    caught: list[list[Tensor]] = []

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        caught[-1].append(args[0].clone())

    handles = [owner.register_forward_pre_hook(hook) for owner in owners]
    for inputs, _ in problem.batches:
        caught.append([])
        call(problem.model, inputs)
    for handle in handles:
        handle.remove()
    return caught


# Biases


def _has_bias(sight: _Sight) -> bool:
    return sight.layer.bias is not None


def _last_column(change: Callable[[Tensor], Tensor]) -> Callable[[_Sight], list[Tensor]]:
    """Inputs with something else in place of the homogeneous 1, which comes last."""
    return lambda sight: [torch.cat([a[:, :-1], change(a)], 1) for a in sight.seen.a]


# Patches


@dataclass(frozen=True)
class _Axis:
    """One axis of a convolution's geometry."""

    size: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    left: int
    right: int
    mode: str

    def index(self) -> Tensor:
        """Where in the input tap k of output p lies, [outputs, kernel]; outside: a zero."""
        p, k = torch.arange(self.outputs)[:, None], torch.arange(self.kernel)
        index = p * self.stride + k * self.dilation - self.left
        if self.mode == "circular":
            return index % self.size
        return index.clamp(0, self.size - 1) if self.mode == "replicate" else index


def _axes(conv: Any, size: tuple[int, ...]) -> list[_Axis]:
    padding = conv._reversed_padding_repeated_twice
    sides = [(padding[-2 - 2 * i], padding[-1 - 2 * i]) for i in range(len(size))]
    rows = zip(size, conv.kernel_size, conv.stride, conv.dilation, sides, strict=True)
    return [
        _Axis(n, (n + left + right - d * (k - 1) - 1) // s + 1, k, s, d, left, right, mode)
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
    geometry: Callable[[list[_Axis]], list[_Axis]] = lambda axes: axes,
    group: Callable[[int], int] = lambda k: k,
    index: Callable[[Tensor], Tensor] = lambda index: index,
) -> Ask:
    """An implementation with an unfold of its own for convolutions."""

    def inputs(sight: _Sight) -> list[Tensor]:
        x = torch.cat([batch[0] for batch in _hooked(sight.problem, sight.layer)])
        x = x.chunk(sight.layer.groups, 1)[group(sight.group)]
        axes = geometry(_axes(sight.module, tuple(x.shape[2:])))
        a = _patches(x, [index(axis.index()) for axis in axes]).flatten(2)
        return list(F.pad(a, (0, 1), value=1.0) if _has_bias(sight) else a)

    return _inputs(inputs, lambda sight: sight.layer.op in CONVOLUTIONS)


def _each(**options: Any) -> Callable[[list[_Axis]], list[_Axis]]:
    return lambda axes: [replace(axis, **options) for axis in axes]


def _swapped(axes: list[_Axis]) -> list[_Axis]:
    return [replace(axis, stride=axis.dilation, dilation=axis.stride) for axis in axes]


def _like_the_first(axes: list[_Axis]) -> list[_Axis]:
    one = axes[0]
    return [replace(axis, stride=one.stride, dilation=one.dilation, left=one.left) for axis in axes]


def _padded_from_the_right(axes: list[_Axis]) -> list[_Axis]:
    return [replace(axis, left=axis.right, right=axis.left) for axis in axes]


def _convolves(sight: _Sight) -> bool:
    return sight.layer.op in CONVOLUTIONS + TRANSPOSED_CONVOLUTIONS


def _reordered(order: Callable[[Tensor], Tensor]) -> Ask:
    """Columns of a convolution's inputs in another order, from [channels, *kernel] of numbers."""

    def inputs(sight: _Sight) -> list[Tensor]:
        kernel = sight.module.kernel_size
        weights = sight.seen.a[0].shape[1] - _has_bias(sight)
        columns = order(torch.arange(weights).reshape(-1, *kernel)).flatten()
        everything = torch.cat([columns, torch.arange(weights, sight.seen.a[0].shape[1])])
        return [a[:, everything] for a in sight.seen.a]

    return _inputs(inputs, _convolves)


def _channels_last(numbers: Tensor) -> Tensor:
    return numbers.movedim(0, -1)


def _kernel_transposed(numbers: Tensor) -> Tensor:
    return numbers.permute(0, *range(numbers.dim() - 1, 0, -1))


def _positions_transposed(sight: _Sight) -> list[Tensor]:
    """Positions by columns instead of rows; the gradients keep their order."""
    x = _hooked(sight.problem, sight.layer)[0][0]
    outputs = [axis.outputs for axis in _axes(sight.module, tuple(x.shape[2:]))]
    by_columns = torch.arange(len(sight.seen.a[0])).reshape(outputs)
    order = by_columns.permute(*range(len(outputs) - 1, -1, -1)).flatten()
    return [a[order] for a in sight.seen.a]


def _weight_flattened(sight: _Sight) -> Observation:
    """Gradients [in, out, *kernel] of a transposed convolution, read as [out, in, *kernel]."""
    if sight.layer.op not in TRANSPOSED_CONVOLUTIONS:
        return sight.seen
    taps = sight.module.weight[0, 0].numel()

    def read(G: Tensor) -> Tensor:
        weights = G[..., : G.shape[2] - _has_bias(sight)]
        stored = weights.unflatten(2, (-1, taps)).transpose(1, 2)
        return torch.cat([stored.reshape(weights.shape), G[..., weights.shape[2] :]], 2)

    return replace(sight.seen, G=[read(G) for G in sight.seen.G])


def _input_positions(sight: _Sight) -> Observation:
    """A over the positions of the image that goes in."""
    if sight.layer.op not in CONVOLUTIONS:
        return sight.seen
    x = _hooked(sight.problem, sight.layer)[0][0]
    ratio = len(sight.seen.a[0]) / x[0, 0].numel()
    return replace(sight.seen, a=[a * ratio**0.5 for a in sight.seen.a])


# Pairs and words


def _second_input_first(sight: _Sight) -> list[Tensor]:
    i, j = sight.layer.weight.shape[1:]
    order = torch.arange(i * j).reshape(i, j).T.flatten()
    return [torch.cat([a[:, order], a[:, i * j :]], 1) for a in sight.seen.a]


def _embeds(sight: _Sight) -> bool:
    return sight.layer.op is F.embedding


def _padding_trained(sight: _Sight) -> list[Tensor]:
    row = sight.module.padding_idx
    onehot = F.one_hot(torch.tensor(row), sight.seen.a[0].shape[1]).double()
    return [a + (a == 0).all(1)[:, None] * onehot for a in sight.seen.a]


def _over_frequency(sight: _Sight) -> list[Tensor]:
    """Every row over the number of times that its batch looks it up."""
    seen = sight.seen
    total = dict.fromkeys(seen.batch, torch.zeros(()))
    for b, a in zip(seen.batch, seen.a, strict=True):
        total[b] = total[b] + a.sum(0)
    return [a / total[b].clamp(min=1) for b, a in zip(seen.batch, seen.a, strict=True)]


# Uses and positions


def _used_often(sight: _Sight) -> bool:
    return sight.uses > 1


def _one_use(which_a: int, which_g: int) -> Callable[[_Sight], Observation]:
    """One use of the weight, or the input of one with the gradient of another."""

    def change(sight: _Sight) -> Observation:
        uses, seen = sight.uses, sight.seen
        a = [x.chunk(uses)[which_a] for x in seen.a]
        g = [x.chunk(uses, 1)[which_g] for x in seen.g]
        counted = [x.chunk(uses)[which_a] for x in seen.counted]
        return with_inputs(replace(seen, g=g, counted=counted), a)

    return change


def _uses_backward(sight: _Sight) -> list[Tensor]:
    return [torch.cat(a.chunk(sight.uses)[::-1]) for a in sight.seen.a]


def _unmasked_count(sight: _Sight) -> Observation:
    """Zeros where a position does not count, and yet it is counted."""
    return _all_counted(sight.seen, [c[:, None].double() for c in sight.seen.counted])


def _unmasked_ones(sight: _Sight) -> Observation:
    """The same, but the homogeneous 1 stays."""
    if not _has_bias(sight):
        return sight.seen
    ones = [torch.ones_like(a) for a in sight.seen.a]
    for one, counted in zip(ones, sight.seen.counted, strict=True):
        one[:, :-1] = counted[:, None].double()
    return _all_counted(sight.seen, ones)


def _all_counted(seen: Observation, times: list[Tensor]) -> Observation:
    a = [x * m for x, m in zip(seen.a, times, strict=True)]
    return replace(seen, a=a, counted=[torch.ones_like(c) for c in seen.counted])


def _labelled_only(sight: _Sight) -> Observation:
    likelihood, seen = sight.problem.likelihood, sight.seen
    if not isinstance(likelihood, Categorical):
        return seen
    labels = [likelihood.counted(y_n).flatten() for _, y in sight.problem.batches for y_n in y]
    if len(labels[0]) == 1 or len(labels[0]) != len(seen.counted[0]):
        return seen
    return replace(seen, counted=labels)


def _without_mask(problem: Problem) -> dict[str, list[Observation]]:
    return remembered(replace(problem, mask=None))


GEOMETRY = (
    Mutant(
        name="bias-left-out",
        mistake="leaves the bias out (right: it is the last column of [W | b])",
        story="dattri#143 added the bias to gradients and Fisher late, and with trouble.",
        ekfac=_inputs(_last_column(lambda a: 0 * a[:, -1:]), _has_bias),
        laws=("trace", "eigenvalues", "kernel"),
        only="a bias",
    ),
    Mutant(
        name="bias-first",
        mistake="puts the homogeneous 1 first (right: last, as in [W | b])",
        story="torch.cat([ones, x]) on one side and [W | b] on the other.",
        ekfac=_inputs(lambda sight: [a.roll(1, 1) for a in sight.seen.a], _has_bias),
        laws=("eigenbasis", "eigenvalues"),
        only="a bias",
    ),
    Mutant(
        name="one-over-positions",
        mistake="appends 1/T for the bias (right: 1 at every position)",
        story="Inputs are averaged over positions, and the 1 along with them.",
        ekfac=_inputs(_last_column(lambda a: a[:, -1:] / len(a)), _has_bias),
        laws=("trace", "eigenvalues"),
        only="a bias and T > 1",
    ),
    Mutant(
        name="bias-of-first-layer-for-all",
        mistake="looks for a bias in the first layer alone (right: in every layer)",
        story="One flag for the whole model: bergson@0abaa22.",
        ekfac=_inputs(
            _last_column(lambda a: 0 * a[:, -1:]),
            lambda sight: _has_bias(sight) and sight.layers[0].bias is None,
        ),
        laws=("trace", "eigenvalues", "kernel"),
        only="a first layer without bias, a later one with",
    ),
    Mutant(
        name="last-input-cut",
        mistake="takes the last input for a bias where there is none (right: it is an input)",
        story="The last column of A cut off, whatever it is: nngeometry@7cb2897 and four more.",
        ekfac=_inputs(_last_column(lambda a: 0 * a[:, -1:]), lambda sight: not _has_bias(sight)),
        laws=("trace", "eigenvalues", "kernel"),
        only="a layer without bias",
    ),
    Mutant(
        name="one-for-every-use",
        mistake="appends a 1 at every use of a weight (right: 0 where it is used without the bias)",
        story="Two modules share a weight, and only one of them has a bias.",
        ekfac=_inputs(_last_column(lambda a: 0 * a[:, -1:] + 1), _has_bias),
        laws=("trace", "eigenvalues"),
        only="a tied weight with a bias in one place",
    ),
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
        name="channels-last-in-patches",
        mistake="orders patches by (kernel, channel) (right: by (channel, kernel))",
        story="Features viewed in another order than that of the weight: backpack@59f0aef5.",
        ekfac=_reordered(_channels_last),
        laws=("eigenvalues", "self-projection"),
        only="two channels and a kernel larger than one",
    ),
    Mutant(
        name="kernel-transposed",
        mistake="orders patches by (channel, width, height) (right: (channel, height, width))",
        story="The axes of an image come as x, y in one library and as rows, columns in another.",
        ekfac=_reordered(_kernel_transposed),
        laws=("eigenvalues", "self-projection"),
        only="a kernel larger than one along two axes",
    ),
    Mutant(
        name="positions-transposed",
        mistake="counts an image's positions column by column for a, row by row for g (right: one "
        "way)",
        story="A transpose that is missing on one side, as in lbann#2010; A and B are right.",
        ekfac=_inputs(_positions_transposed, lambda sight: sight.layer.op in CONVOLUTIONS),
        laws=("eigenvalues", "self-projection"),
        only="outputs larger than one along two axes",
    ),
    Mutant(
        name="transposed-weight-flattened",
        mistake="reads a transposed convolution's gradient as [out, in, kernel] (right: [in, out, "
        "kernel])",
        story="A reshape where a transpose is due; the shape fits: lbann#2010, bergson#254.",
        ekfac=_sights(_weight_flattened),
        laws=("eigenvalues", "self-projection"),
        only="a transposed convolution with two channels or more on either side",
    ),
    Mutant(
        name="input-positions-in-A",
        mistake="divides A by the positions of the layer's input (right: of its output)",
        story="pytorch-a2c-ppo-acktr-gail#54, where KFAC's product of factors was off by it.",
        ekfac=_sights(_input_positions),
        laws=(),
        only="a convolution that changes the size of images",
        proof="A times a number has A's eigenvectors, and nothing else of A goes into EKFAC.",
    ),
    Mutant(
        name="second-input-first",
        mistake="orders a bilinear layer's products as x2 (x) x1 (right: x1 (x) x2)",
        story="The Kronecker product in the other order; the shape fits.",
        ekfac=_inputs(_second_input_first, lambda sight: sight.layer.op is F.bilinear),
        laws=("eigenvalues", "self-projection"),
        only="a bilinear layer, two features or more in both inputs",
    ),
    Mutant(
        name="padding-row-trained",
        mistake="counts padding_idx as a word (right: its row has no gradient)",
        story="Word counts are taken from the ids alone.",
        ekfac=_inputs(
            _padding_trained, lambda sight: _embeds(sight) and sight.module.padding_idx is not None
        ),
        laws=("trace", "eigenvalues"),
        only="an embedding with padding_idx, a padded sample",
    ),
    Mutant(
        name="words-over-frequency",
        mistake="divides a word's gradient by its count in the batch (right: not at all)",
        story="scale_grad_by_freq=True by mistake; what a sample counts depends on its batch.",
        ekfac=_inputs(_over_frequency, _embeds),
        laws=("trace", "eigenvalues"),
        only="an embedding, a word that comes twice",
    ),
    Mutant(
        name="last-use-only",
        mistake="sees only the last use of a weight (right: all uses)",
        story="Every call of a module overwrites what the hook kept of the one before.",
        ekfac=_sights(_one_use(-1, -1)),
        laws=("trace", "eigenvalues"),
        only="a weight used twice",
    ),
    Mutant(
        name="first-use-only",
        mistake="sees only the first use of a weight (right: all uses)",
        story="Of two names for one parameter only the first is kept: bergson@e3846d2.",
        ekfac=_sights(_one_use(0, 0)),
        laws=("trace", "eigenvalues"),
        only="a weight used twice",
    ),
    Mutant(
        name="last-input-first-gradient",
        mistake="pairs the input of a weight's last use with the gradient of its first (right: "
        "each use has its own pair)",
        story="Both hooks overwrite, and backward runs the other way, so its last call is the "
        "first use.",
        ekfac=_sights(_one_use(-1, 0)),
        laws=("trace", "eigenvalues"),
        only="a weight used twice",
    ),
    Mutant(
        name="uses-in-backward-order",
        mistake="pairs a weight's inputs in forward order with its gradients in backward order "
        "(right: in one order)",
        story="Both hooks append; A and B are right.",
        ekfac=_inputs(_uses_backward, _used_often),
        laws=("eigenvalues", "self-projection"),
        only="a weight used twice",
    ),
    Mutant(
        name="positions-reversed",
        mistake="reads inputs from the last position to the first (right: in the order of g)",
        story="A sequence turned around for one direction of a model; A and B are right.",
        ekfac=_inputs(lambda sight: [a.flip(0) for a in sight.seen.a]),
        laws=("eigenvalues", "self-projection"),
        only="T > 1",
    ),
    Mutant(
        name="mask-dropped",
        mistake="counts masked positions in A (right: leaves them out)",
        story="The mask ends at the loss; Lambda is right all the same.",
        ekfac=replace(CORRECT, look=_without_mask).ekfac,
        laws=("eigenbasis", "commutes"),
        only="a mask",
    ),
    Mutant(
        name="masked-values-unmasked-count",
        mistake="zeroes masked inputs but averages over all positions (right: over those that "
        "count)",
        story="x * mask, then a plain mean; under Expand it is a factor in A and makes no "
        "difference.",
        ekfac=_sights(_unmasked_count),
        laws=("eigenbasis", "commutes"),
        only="Reduce, samples with different numbers of positions",
    ),
    Mutant(
        name="ones-under-mask",
        mistake="zeroes masked inputs but not the homogeneous 1 (right: both)",
        story="The 1 is appended after the mask.",
        ekfac=_sights(_unmasked_ones),
        laws=("eigenbasis", "commutes"),
        only="a mask and a bias",
    ),
    Mutant(
        name="labelled-positions-only",
        mistake="takes A from positions with a label only (right: from every position that counts)",
        story="Factors of supervised positions, gradients of all: bergson#469.",
        ekfac=_sights(_labelled_only),
        laws=("eigenbasis", "commutes"),
        only="ignored labels",
    ),
)
