"""Mistakes in what a lookup counts."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.places import Sight, of_inputs
from ekfac_ref.conformance.mutants.mutant import Mutant


def _embeds(sight: Sight) -> bool:
    return sight.layer.op is F.embedding


def _padding_trained(sight: Sight) -> list[Tensor]:
    row = sight.module.padding_idx
    onehot = F.one_hot(torch.tensor(row), sight.seen.a[0].shape[1]).double()
    return [a + (a == 0).all(1)[:, None] * onehot for a in sight.seen.a]


def _over_frequency(sight: Sight) -> list[Tensor]:
    """Every row over the number of times that its batch looks it up."""
    seen = sight.seen
    total = dict.fromkeys(seen.batch, torch.zeros(()))
    for b, a in zip(seen.batch, seen.a, strict=True):
        total[b] = total[b] + a.sum(0)
    return [a / total[b].clamp(min=1) for b, a in zip(seen.batch, seen.a, strict=True)]


EMBEDDINGS = (
    Mutant(
        name="padding-row-trained",
        mistake="counts padding_idx as a word (right: its row has no gradient)",
        story="Word counts are taken from the ids alone.",
        ekfac=of_inputs(
            _padding_trained, lambda sight: _embeds(sight) and sight.module.padding_idx is not None
        ),
        laws=("trace", "eigenvalues"),
        only="an embedding with padding_idx, a padded sample",
    ),
    Mutant(
        name="words-over-frequency",
        mistake="divides a word's gradient by its count in the batch (right: not at all)",
        story="scale_grad_by_freq=True by mistake; what a sample counts depends on its batch.",
        ekfac=of_inputs(_over_frequency, _embeds),
        laws=("trace", "eigenvalues"),
        only="an embedding, a word that comes twice",
    ),
)
