"""Mistakes in the order of what comes flattened: patches, images, kernels, products of inputs."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.patches import axes_of
from ekfac_ref.conformance.mutants.inputs.places import Sight, has_bias, hooked, of_inputs, on_sight
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.model.layer_kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS


def _convolves(sight: Sight) -> bool:
    return sight.layer.op in CONVOLUTIONS + TRANSPOSED_CONVOLUTIONS


def _reordered(order: Callable[[Tensor], Tensor]) -> Ask:
    """Columns of a convolution's inputs in another order, from [channels, *kernel] of numbers."""

    def inputs(sight: Sight) -> list[Tensor]:
        kernel = sight.module.kernel_size
        weights = sight.seen.a[0].shape[1] - has_bias(sight)
        columns = order(torch.arange(weights).reshape(-1, *kernel)).flatten()
        everything = torch.cat([columns, torch.arange(weights, sight.seen.a[0].shape[1])])
        return [a[:, everything] for a in sight.seen.a]

    return of_inputs(inputs, _convolves)


def _channels_last(numbers: Tensor) -> Tensor:
    return numbers.movedim(0, -1)


def _kernel_transposed(numbers: Tensor) -> Tensor:
    return numbers.permute(0, *range(numbers.dim() - 1, 0, -1))


def _positions_transposed(sight: Sight) -> list[Tensor]:
    """Positions by columns instead of rows; the gradients keep their order."""
    x = hooked(sight.problem, sight.layer)[0][0]
    outputs = [axis.outputs for axis in axes_of(sight.module, tuple(x.shape[2:]))]
    by_columns = torch.arange(len(sight.seen.a[0])).reshape(outputs)
    order = by_columns.permute(*range(len(outputs) - 1, -1, -1)).flatten()
    return [a[order] for a in sight.seen.a]


def _weight_flattened(sight: Sight) -> Observation:
    """Gradients [in, out, *kernel] of a transposed convolution, read as [out, in, *kernel]."""
    if sight.layer.op not in TRANSPOSED_CONVOLUTIONS:
        return sight.seen
    taps = sight.module.weight[0, 0].numel()

    def read(G: Tensor) -> Tensor:
        weights = G[..., : G.shape[2] - has_bias(sight)]
        stored = weights.unflatten(2, (-1, taps)).transpose(1, 2)
        return torch.cat([stored.reshape(weights.shape), G[..., weights.shape[2] :]], 2)

    return replace(sight.seen, G=[read(G) for G in sight.seen.G])


def _second_input_first(sight: Sight) -> list[Tensor]:
    i, j = sight.layer.weight.shape[1:]
    order = torch.arange(i * j).reshape(i, j).T.flatten()
    return [torch.cat([a[:, order], a[:, i * j :]], 1) for a in sight.seen.a]


LAYOUTS = (
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
        ekfac=of_inputs(_positions_transposed, lambda sight: sight.layer.op in CONVOLUTIONS),
        laws=("eigenvalues", "self-projection"),
        only="outputs larger than one along two axes",
    ),
    Mutant(
        name="transposed-weight-flattened",
        mistake="reads a transposed convolution's gradient as [out, in, kernel] (right: [in, out, "
        "kernel])",
        story="A reshape where a transpose is due; the shape fits: lbann#2010, bergson#254.",
        ekfac=on_sight(_weight_flattened),
        laws=("eigenvalues", "self-projection"),
        only="a transposed convolution with two channels or more on either side",
    ),
    Mutant(
        name="second-input-first",
        mistake="orders a bilinear layer's products as x2 (x) x1 (right: x1 (x) x2)",
        story="The Kronecker product in the other order; the shape fits.",
        ekfac=of_inputs(_second_input_first, lambda sight: sight.layer.op is F.bilinear),
        laws=("eigenvalues", "self-projection"),
        only="a bilinear layer, two features or more in both inputs",
    ),
)
