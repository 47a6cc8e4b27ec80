"""Mistakes in the homogeneous 1, the last input of a layer with a bias."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.inputs.layers import Applies, LayerObservation, with_inputs
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Ask


def _with_last_input(
    change: Callable[[Tensor], Tensor], applies: Applies = LayerObservation.has_bias
) -> Ask:
    """Something else in place of the homogeneous 1, which comes last, made of the inputs."""
    return with_inputs(
        lambda here: [torch.cat([a[:, :-1], change(a)], 1) for a in here.seen.a], applies
    )


_mutant = partial(Mutant, laws=("trace", "eigenvalues", "kernel"))

BIASES = (
    _mutant(
        name="bias-left-out",
        mistake="leaves the bias out (right: it is the last column of [W | b])",
        story="dattri#143 added the bias to gradients and Fisher late, and with trouble.",
        ekfac=_with_last_input(lambda a: 0 * a[:, -1:]),
        only="a bias",
    ),
    _mutant(
        name="bias-first",
        mistake="puts the homogeneous 1 first (right: last, as in [W | b])",
        story="torch.cat([ones, x]) on one side and [W | b] on the other.",
        ekfac=with_inputs(
            lambda here: [a.roll(1, 1) for a in here.seen.a], LayerObservation.has_bias
        ),
        laws=("eigenbasis", "eigenvalues"),
        only="a bias",
    ),
    _mutant(
        name="one-over-positions",
        mistake="appends 1/T for the bias (right: 1 at every position)",
        story="Inputs are averaged over positions, and the 1 along with them.",
        ekfac=_with_last_input(lambda a: a[:, -1:] / len(a)),
        laws=("trace", "eigenvalues"),
        only="a bias and T > 1",
    ),
    _mutant(
        name="bias-of-first-layer-for-all",
        mistake="looks for a bias in the first layer alone (right: in every layer)",
        story="One flag for the whole model: bergson@0abaa22.",
        ekfac=_with_last_input(
            lambda a: 0 * a[:, -1:], lambda here: here.has_bias() and here.layers[0].bias is None
        ),
        only="a first layer without bias, a later one with",
    ),
    _mutant(
        name="last-input-cut",
        mistake="takes the last input for a bias where there is none (right: it is an input)",
        story="The last column of A cut off, whatever it is: nngeometry@7cb2897 and four more.",
        ekfac=_with_last_input(lambda a: 0 * a[:, -1:], lambda here: not here.has_bias()),
        only="a layer without bias",
    ),
    _mutant(
        name="one-for-every-use",
        mistake="appends a 1 at every use of a weight (right: 0 where it is used without the bias)",
        story="Two modules share a weight, and only one of them has a bias.",
        ekfac=_with_last_input(lambda a: 0 * a[:, -1:] + 1),
        laws=("trace", "eigenvalues"),
        only="a tied weight with a bias in one place",
    ),
)
