"""The layers of a problem, with those that its forward shows and no module has."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ekfac_ref.model.copies.modes import ITS_OWN
from ekfac_ref.model.layers import BareWeights, Layer, Names, find_layers, find_parameters
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.model.recording.bare_weights import bare_weights
from ekfac_ref.model.weights.attention import projection
from ekfac_ref.model.weights.owned import BareWeight
from ekfac_ref.question.problem import Problem


def layers_of(problem: Problem) -> tuple[Layer, ...]:
    """What ``kfac`` and ``ekfac`` have factors of, of the problem's own model.

    Those of ``find_layers``, and Parameters that belong to no supported module where the forward
    multiplies with them, ``x @ W``, ``F.linear(x, W[e], b[e])``, ``torch.einsum``, looks rows of
    them up, ``W[ids]``, or gives them to an op that layers have, ``F.conv2d(x, W)``.
    """
    with undisturbed(problem.batches):
        return find_layers(problem.model, problem.layers, None, bare_weights(problem, ITS_OWN))


def parameters_of(problem: Problem) -> tuple[Layer, ...]:
    """What ``per_sample_gradients`` and ``exact_fisher`` are of: likewise, and ``find_parameters``.

    With trainable Parameters that are used otherwise, each a row.
    """
    with undisturbed(problem.batches):
        return find_parameters(problem.model, problem.layers, None, bare_weights(problem, ITS_OWN))


def names_of(layers: Any) -> Any:
    """Names where there are Layers; what is no collection is left for ``Problem`` to refuse."""
    if isinstance(layers, str) or not isinstance(layers, Collection):
        return layers
    return tuple(x.name if isinstance(x, Layer) else x for x in layers)


def bare_among(layers: Iterable[str | Layer]) -> BareWeights:
    """The matrices of no module among them, which ``layers_of`` has found by data."""
    return tuple(
        BareWeight(x.name, x.op, x.parameters[0], (*x.parameters, None)[1], x.rows, x.groups)
        for x in layers
        if isinstance(x, Layer)
        and x.op is not None
        and x.parameters[0] in (x.name, x.name.rpartition("[")[0])
    )


def in_projections(layers: Sequence[Layer]) -> dict[Names, Layer]:
    """{names of query, key and value: all three as one, ``"attention.in_proj"``}.

    Of every attention that has them in one Parameter, where all three are among the layers.
    """
    packed: dict[Tensor, list[Layer]] = {}
    for layer in layers:
        if layer.op is projection and layer.rows[0] is not None:
            packed.setdefault(layer.weight, []).append(layer)
    found = {}
    for three in packed.values():
        if len(three) == 3:
            name = three[0].name.removesuffix("q_proj") + "in_proj"
            found[tuple(x.name for x in three)] = replace(three[0], name=name, rows=(None, None))
    return found
