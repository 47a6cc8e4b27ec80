"""Mistakes in the order of what comes flattened (patches, images, kernels), and in lookups."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.layers import LayerObservation, with_inputs, with_layers
from ekfac_ref.conformance.mutants.inputs.patches import axes_of
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.model.weights.layer_kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS


def _reordered(order: Callable[[Tensor], Tensor]) -> Ask:
    """Columns of a convolution's inputs in another order, from [channels, *kernel] of numbers."""

    def inputs(here: LayerObservation) -> list[Tensor]:
        kernel = here.module.kernel_size
        weights = here.seen.a[0].shape[1] - here.has_bias()
        columns = order(torch.arange(weights).reshape(-1, *kernel)).flatten()
        everything = torch.cat([columns, torch.arange(weights, here.seen.a[0].shape[1])])
        return [a[:, everything] for a in here.seen.a]

    every = CONVOLUTIONS + TRANSPOSED_CONVOLUTIONS
    return with_inputs(inputs, lambda here: here.layer.op in every)


def _positions_transposed(here: LayerObservation) -> list[Tensor]:
    """Positions by columns instead of rows; the gradients keep their order."""
    outputs = [axis.outputs for axis in axes_of(here.module, here.image_size)]
    by_columns = torch.arange(len(here.seen.a[0])).reshape(outputs)
    order = by_columns.permute(*range(len(outputs) - 1, -1, -1)).flatten()
    return [a[order] for a in here.seen.a]


def _weight_flattened(here: LayerObservation) -> Observation:
    """Gradients [in, out, *kernel] of a transposed convolution, read as [out, in, *kernel]."""
    if here.layer.op not in TRANSPOSED_CONVOLUTIONS:
        return here.seen
    taps = here.module.weight[0, 0].numel()

    def read(G: Tensor) -> Tensor:
        weights = G[..., : G.shape[2] - here.has_bias()]
        stored = weights.unflatten(2, (-1, taps)).transpose(1, 2)
        return torch.cat([stored.reshape(weights.shape), G[..., weights.shape[2] :]], 2)

    return replace(here.seen, G=[read(G) for G in here.seen.G])


def _second_input_first(here: LayerObservation) -> list[Tensor]:
    i, j = here.layer.weight.shape[1:]
    order = torch.arange(i * j).reshape(i, j).T.flatten()
    return [torch.cat([a[:, order], a[:, i * j :]], 1) for a in here.seen.a]


def _padding_trained(here: LayerObservation) -> list[Tensor]:
    row = here.module.padding_idx
    if row is None:
        return here.seen.a
    onehot = F.one_hot(torch.tensor(row), here.seen.a[0].shape[1]).double()
    return [a + (a == 0).all(1)[:, None] * onehot for a in here.seen.a]


def _over_frequency(here: LayerObservation) -> list[Tensor]:
    """Every row over the number of times that its batch looks it up."""
    seen = here.seen
    total = dict.fromkeys(seen.batch, torch.zeros(()))
    for b, a in zip(seen.batch, seen.a, strict=True):
        total[b] = total[b] + a.sum(0)
    return [a / total[b].clamp(min=1) for b, a in zip(seen.batch, seen.a, strict=True)]


_of_embeddings = partial(with_inputs, applies=lambda here: here.layer.op is F.embedding)
_mutant = partial(Mutant, laws=("eigenvalues", "self-projection"))

LAYOUTS = (
    _mutant(
        name="channels-last-in-patches",
        mistake="orders patches by (kernel, channel) (right: by (channel, kernel))",
        story="Features viewed in another order than that of the weight: backpack@59f0aef5.",
        ekfac=_reordered(lambda numbers: numbers.movedim(0, -1)),
        only="two channels and a kernel larger than one",
    ),
    _mutant(
        name="kernel-transposed",
        mistake="orders patches by (channel, width, height) (right: (channel, height, width))",
        story="The axes of an image come as x, y in one library and as rows, columns in another.",
        ekfac=_reordered(lambda numbers: numbers.permute(0, *range(numbers.dim() - 1, 0, -1))),
        only="a kernel larger than one along two axes",
    ),
    _mutant(
        name="positions-transposed",
        mistake="counts an image's positions column by column for a, row by row for g (right: one "
        "way)",
        story="A transpose that is missing on one side, as in lbann#2010; A and B are right.",
        ekfac=with_inputs(_positions_transposed, lambda here: here.layer.op in CONVOLUTIONS),
        only="outputs larger than one along two axes",
    ),
    _mutant(
        name="transposed-weight-flattened",
        mistake="reads a transposed convolution's gradient as [out, in, kernel] (right: [in, out, "
        "kernel])",
        story="A reshape where a transpose is due; the shape fits: lbann#2010, bergson#254.",
        ekfac=with_layers(_weight_flattened),
        only="a transposed convolution with two channels or more on either side",
    ),
    _mutant(
        name="second-input-first",
        mistake="orders a bilinear layer's products as x2 (x) x1 (right: x1 (x) x2)",
        story="The Kronecker product in the other order; the shape fits.",
        ekfac=with_inputs(_second_input_first, lambda here: here.layer.op is F.bilinear),
        only="a bilinear layer, two features or more in both inputs",
    ),
    _mutant(
        name="padding-row-trained",
        mistake="counts padding_idx as a word (right: its row has no gradient)",
        story="Word counts are taken from the ids alone.",
        ekfac=_of_embeddings(_padding_trained),
        laws=("trace", "eigenvalues"),
        only="an embedding with padding_idx, a padded sample",
    ),
    _mutant(
        name="words-over-frequency",
        mistake="divides a word's gradient by its count in the batch (right: not at all)",
        story="scale_grad_by_freq=True by mistake; what a sample counts depends on its batch.",
        ekfac=_of_embeddings(_over_frequency),
        laws=("trace", "eigenvalues"),
        only="an embedding, a word that comes twice",
    ),
)
