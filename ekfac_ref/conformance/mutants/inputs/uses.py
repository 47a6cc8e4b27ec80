"""Mistakes with a weight that is used more than once."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.places import Sight, of_inputs, on_sight
from ekfac_ref.conformance.mutants.inputs.samples import with_inputs
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.truth.observation import Observation


def _used_often(sight: Sight) -> bool:
    return sight.uses > 1


def _one_use(which_a: int, which_g: int) -> Callable[[Sight], Observation]:
    """One use of the weight, or the input of one with the gradient of another."""

    def change(sight: Sight) -> Observation:
        uses, seen = sight.uses, sight.seen
        a = [x.chunk(uses)[which_a] for x in seen.a]
        g = [x.chunk(uses, 1)[which_g] for x in seen.g]
        counted = [x.chunk(uses)[which_a] for x in seen.counted]
        return with_inputs(replace(seen, g=g, counted=counted), a)

    return change


def _uses_backward(sight: Sight) -> list[Tensor]:
    return [torch.cat(a.chunk(sight.uses)[::-1]) for a in sight.seen.a]


USES = (
    Mutant(
        name="last-use-only",
        mistake="sees only the last use of a weight (right: all uses)",
        story="Every call of a module overwrites what the hook kept of the one before.",
        ekfac=on_sight(_one_use(-1, -1)),
        laws=("trace", "eigenvalues"),
        only="a weight used twice",
    ),
    Mutant(
        name="first-use-only",
        mistake="sees only the first use of a weight (right: all uses)",
        story="Of two names for one parameter only the first is kept: bergson@e3846d2.",
        ekfac=on_sight(_one_use(0, 0)),
        laws=("trace", "eigenvalues"),
        only="a weight used twice",
    ),
    Mutant(
        name="last-input-first-gradient",
        mistake="pairs the input of a weight's last use with the gradient of its first (right: "
        "each use has its own pair)",
        story="Both hooks overwrite, and backward runs the other way, so its last call is the "
        "first use.",
        ekfac=on_sight(_one_use(-1, 0)),
        laws=("trace", "eigenvalues"),
        only="a weight used twice",
    ),
    Mutant(
        name="uses-in-backward-order",
        mistake="pairs a weight's inputs in forward order with its gradients in backward order "
        "(right: in one order)",
        story="Both hooks append; A and B are right.",
        ekfac=of_inputs(_uses_backward, _used_often),
        laws=("eigenvalues", "self-projection"),
        only="a weight used twice",
    ),
)
