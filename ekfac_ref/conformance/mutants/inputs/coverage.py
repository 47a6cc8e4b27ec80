"""Mistakes in what is covered: a layer counted twice, an output that nobody looks at."""

from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.places import Sight, on_sight
from ekfac_ref.conformance.mutants.inputs.samples import seeing
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.truth.observation import Observation


def _last_layer_twice(sight: Sight) -> Observation:
    seen = sight.seen
    if len(sight.layers) == 1 or sight.layer is not sight.layers[-1]:
        return seen
    return replace(seen, g=[2 * g for g in seen.g], G=[2 * G for G in seen.G])


def _pairs_of_outputs(seen: Observation) -> Observation:
    """Zeros for the last output, where their number is odd."""
    pairs = seen.G[0].shape[1] // 2 * 2

    def kept(x: Tensor, axis: int) -> Tensor:
        return x.index_fill(axis, torch.arange(pairs, x.shape[axis]), 0)

    return replace(seen, g=[kept(g, 2) for g in seen.g], G=[kept(G, 1) for G in seen.G])


COVERAGE = (
    Mutant(
        name="last-layer-twice",
        mistake="doubles the gradients of the last layer (right: every layer once)",
        story="A module that is registered twice has its gradients added twice. In opacus#511 one "
        "parameter of several was off by 2.",
        ekfac=on_sight(_last_layer_twice),
        laws=("trace", "eigenvalues"),
        only="two layers or more",
    ),
    Mutant(
        name="odd-output-left-over",
        mistake="splits outputs into pairs and loses an odd one (right: all of them)",
        story="Heads that do not cover every row: bergson@3f1a015. Shards of a dimension that does "
        "not divide: bergson@9444e59.",
        ekfac=seeing(_pairs_of_outputs),
        laws=("trace", "eigenvalues", "kernel"),
        only="an odd number of outputs",
    ),
)
