"""Mistakes in what is counted: uses of a weight, positions, layers, outputs."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ekfac_ref.conformance.mutants.inputs.layers import LayerObservation, with_inputs, with_layers
from ekfac_ref.conformance.mutants.inputs.samples import from_inputs
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import with_observations
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.question.likelihoods import Categorical


def _one_use(which_a: int, which_g: int) -> Callable[[LayerObservation], Observation]:
    """One use of the weight, or the input of one with the gradient of another."""

    def change(here: LayerObservation) -> Observation:
        uses, seen = here.uses, here.seen
        a = [x.chunk(uses)[which_a] for x in seen.a]
        g = [x.chunk(uses, 1)[which_g] for x in seen.g]
        counted = [x.chunk(uses)[which_a] for x in seen.counted]
        return from_inputs(replace(seen, g=g, counted=counted), a)

    return change


def _labelled_only(here: LayerObservation) -> Observation:
    likelihood, seen = here.problem.likelihood, here.seen
    if not isinstance(likelihood, Categorical):
        return seen
    labels = [likelihood.counted(y_n).flatten() for _, y in here.problem.batches for y_n in y]
    if len(labels[0]) == 1 or len(labels[0]) != len(seen.counted[0]):
        return seen
    return replace(seen, counted=labels)


def _last_layer_twice(here: LayerObservation) -> Observation:
    seen = here.seen
    factor = 2 if here.layer is here.layers[-1] and len(here.layers) > 1 else 1
    return replace(seen, g=[factor * g for g in seen.g], G=[factor * G for G in seen.G])


def _pairs_of_outputs(seen: Observation) -> Observation:
    """Zeros for the last output, where their number is odd."""
    d_out = seen.shape[0]
    last = torch.arange(d_out // 2 * 2, d_out)
    g = [g.index_fill(2, last, 0) for g in seen.g]
    return replace(seen, g=g, G=[G.index_fill(1, last, 0) for G in seen.G])


_mutant = partial(Mutant, laws=("trace", "eigenvalues"))
_of_uses = partial(_mutant, only="a weight used twice")

POSITIONS = (
    _of_uses(
        name="last-use-only",
        mistake="sees only the last use of a weight (right: all uses)",
        story="Every call of a module overwrites what the hook kept of the one before.",
        ekfac=with_layers(_one_use(-1, -1)),
    ),
    _of_uses(
        name="first-use-only",
        mistake="sees only the first use of a weight (right: all uses)",
        story="Of two names for one parameter only the first is kept: bergson@e3846d2.",
        ekfac=with_layers(_one_use(0, 0)),
    ),
    _of_uses(
        name="last-input-first-gradient",
        mistake="pairs the input of a weight's last use with the gradient of its first (right: "
        "each use has its own pair)",
        story="Both hooks overwrite, and backward runs the other way, so its last call is the "
        "first use.",
        ekfac=with_layers(_one_use(-1, 0)),
    ),
    _of_uses(
        name="uses-in-backward-order",
        mistake="pairs a weight's inputs in forward order with its gradients in backward order "
        "(right: in one order)",
        story="Both hooks append; A and B are right.",
        ekfac=with_inputs(
            lambda here: [torch.cat(a.chunk(here.uses)[::-1]) for a in here.seen.a],
            lambda here: here.uses > 1,
        ),
        laws=("eigenvalues", "self-projection"),
    ),
    _mutant(
        name="positions-reversed",
        mistake="reads inputs from the last position to the first (right: in the order of g)",
        story="A sequence turned around for one direction of a model; A and B are right.",
        ekfac=with_inputs(lambda here: [a.flip(0) for a in here.seen.a]),
        laws=("eigenvalues", "self-projection"),
        only="T > 1",
    ),
    _mutant(
        name="labelled-positions-only",
        mistake="takes A from positions with a label only (right: from every position that counts)",
        story="Factors of supervised positions, gradients of all: bergson#469.",
        ekfac=with_layers(_labelled_only),
        laws=("eigenbasis", "commutes"),
        only="ignored labels",
    ),
    _mutant(
        name="last-layer-twice",
        mistake="doubles the gradients of the last layer (right: every layer once)",
        story="A module that is registered twice has its gradients added twice. In opacus#511 one "
        "parameter of several was off by 2.",
        ekfac=with_layers(_last_layer_twice),
        only="two layers or more",
    ),
    _mutant(
        name="odd-output-left-over",
        mistake="splits outputs into pairs and loses an odd one (right: all of them)",
        story="Heads that do not cover every row: bergson@3f1a015. Shards of a dimension that does "
        "not divide: bergson@9444e59.",
        ekfac=with_observations(_pairs_of_outputs),
        laws=("trace", "eigenvalues", "kernel"),
        only="an odd number of outputs",
    ),
)
