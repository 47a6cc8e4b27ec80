"""Mistakes in the homogeneous 1, the last input of a layer with a bias."""

from collections.abc import Callable

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.places import Sight, has_bias, of_inputs
from ekfac_ref.conformance.mutants.mutant import Mutant


def _last_column(change: Callable[[Tensor], Tensor]) -> Callable[[Sight], list[Tensor]]:
    """Inputs with something else in place of the homogeneous 1, which comes last."""
    return lambda sight: [torch.cat([a[:, :-1], change(a)], 1) for a in sight.seen.a]


BIASES = (
    Mutant(
        name="bias-left-out",
        mistake="leaves the bias out (right: it is the last column of [W | b])",
        story="dattri#143 added the bias to gradients and Fisher late, and with trouble.",
        ekfac=of_inputs(_last_column(lambda a: 0 * a[:, -1:]), has_bias),
        laws=("trace", "eigenvalues", "kernel"),
        only="a bias",
    ),
    Mutant(
        name="bias-first",
        mistake="puts the homogeneous 1 first (right: last, as in [W | b])",
        story="torch.cat([ones, x]) on one side and [W | b] on the other.",
        ekfac=of_inputs(lambda sight: [a.roll(1, 1) for a in sight.seen.a], has_bias),
        laws=("eigenbasis", "eigenvalues"),
        only="a bias",
    ),
    Mutant(
        name="one-over-positions",
        mistake="appends 1/T for the bias (right: 1 at every position)",
        story="Inputs are averaged over positions, and the 1 along with them.",
        ekfac=of_inputs(_last_column(lambda a: a[:, -1:] / len(a)), has_bias),
        laws=("trace", "eigenvalues"),
        only="a bias and T > 1",
    ),
    Mutant(
        name="bias-of-first-layer-for-all",
        mistake="looks for a bias in the first layer alone (right: in every layer)",
        story="One flag for the whole model: bergson@0abaa22.",
        ekfac=of_inputs(
            _last_column(lambda a: 0 * a[:, -1:]),
            lambda sight: has_bias(sight) and sight.layers[0].bias is None,
        ),
        laws=("trace", "eigenvalues", "kernel"),
        only="a first layer without bias, a later one with",
    ),
    Mutant(
        name="last-input-cut",
        mistake="takes the last input for a bias where there is none (right: it is an input)",
        story="The last column of A cut off, whatever it is: nngeometry@7cb2897 and four more.",
        ekfac=of_inputs(_last_column(lambda a: 0 * a[:, -1:]), lambda sight: not has_bias(sight)),
        laws=("trace", "eigenvalues", "kernel"),
        only="a layer without bias",
    ),
    Mutant(
        name="one-for-every-use",
        mistake="appends a 1 at every use of a weight (right: 0 where it is used without the bias)",
        story="Two modules share a weight, and only one of them has a bias.",
        ekfac=of_inputs(_last_column(lambda a: 0 * a[:, -1:] + 1), has_bias),
        laws=("trace", "eigenvalues"),
        only="a tied weight with a bias in one place",
    ),
)
