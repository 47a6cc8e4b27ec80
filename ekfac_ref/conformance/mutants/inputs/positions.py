"""Mistakes in which positions there are: their order, missing labels. Masks: ``factors.py``."""

from dataclasses import replace

from ekfac_ref.conformance.mutants.inputs.places import Sight, of_inputs, on_sight
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.question.likelihoods import Categorical


def _labelled_only(sight: Sight) -> Observation:
    likelihood, seen = sight.problem.likelihood, sight.seen
    if not isinstance(likelihood, Categorical):
        return seen
    labels = [likelihood.counted(y_n).flatten() for _, y in sight.problem.batches for y_n in y]
    if len(labels[0]) == 1 or len(labels[0]) != len(seen.counted[0]):
        return seen
    return replace(seen, counted=labels)


POSITIONS = (
    Mutant(
        name="positions-reversed",
        mistake="reads inputs from the last position to the first (right: in the order of g)",
        story="A sequence turned around for one direction of a model; A and B are right.",
        ekfac=of_inputs(lambda sight: [a.flip(0) for a in sight.seen.a]),
        laws=("eigenvalues", "self-projection"),
        only="T > 1",
    ),
    Mutant(
        name="labelled-positions-only",
        mistake="takes A from positions with a label only (right: from every position that counts)",
        story="Factors of supervised positions, gradients of all: bergson#469.",
        ekfac=on_sight(_labelled_only),
        laws=("eigenbasis", "commutes"),
        only="ignored labels",
    ),
)
