"""Another implementation's conventions, declared and applied, so that no adapter permutes by hand.

An implementation answers ``{layer: part}``, where a part is ``Eigen``, ``Factors`` or ``Matrix`` as
it has them, or ``WithBias`` of two such parts, or a list of parts, one per group of a grouped
convolution. ``adapted`` makes operators of it: [d_out, d_in], the bias last, the unit likelihood
with 1/N::

    Subject("mine", adapted(mine, Convention(eigenvalues=columns, bias=bias_first)))

Conventions are applied, not excused: what comes out must then agree to rounding. The operators'
``solve`` is this package's own, so the solve laws say nothing about an adapted implementation's.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ekfac_ref.conformance.adapter.conventions import Convention
from ekfac_ref.conformance.adapter.parts import Reader, WithBias
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.placed import Apart, Place
from ekfac_ref.matrix.operators import BlockDiagonal, Operator
from ekfac_ref.model.forward import in_algebra_dtype
from ekfac_ref.model.layers import find_layers
from ekfac_ref.question.problem import Problem

Adapted = Operator | Apart


def adapted(
    answer: Callable[[Problem], Mapping[str, Any]], convention: Convention | None = None
) -> Callable[[Problem], dict[str, Adapted]]:
    """What ``answer`` finds as operators of this package: ``Subject``'s ekfac, kfac, exact_fisher.

    Args:
        answer: a problem to {layer: a part, or a list of parts for the groups of a convolution},
            a part being ``Eigen``, ``Factors``, ``Matrix`` or ``WithBias``.
        convention: how the numbers in the parts are laid out and scaled; by default as here.

    Raises:
        BadAnswer: when asked, if layers are missing or a part is not of the layer's shape.
    """
    declared = Convention() if convention is None else convention

    def ask(problem: Problem) -> dict[str, Adapted]:
        # All that is needed of the problem is taken before the implementation can change it.
        layers = find_layers(problem.model, problem.layers)
        scale = declared.scale(problem)
        like = in_algebra_dtype(next(problem.model.parameters()).detach())
        readers = {layer.name: Reader(layer, declared, scale, like) for layer in layers}
        parts = answer(problem)
        if not isinstance(parts, Mapping) or set(parts) != set(readers):
            got = sorted(parts) if isinstance(parts, Mapping) else type(parts).__name__
            raise BadAnswer(f"the adapter got {got}, expected a dict of {sorted(readers)}")
        return {name: _operator(reader, parts[name]) for name, reader in readers.items()}

    return ask


def _operator(reader: Reader, parts: Any) -> Adapted:
    groups = parts if isinstance(parts, (list, tuple)) else (parts,)
    if len(groups) != reader.layer.groups:
        raise reader.bad("answer", f"parts for {len(groups)} groups of {reader.layer.groups}")
    if any(isinstance(part, WithBias) for part in groups):
        return _weights_and_biases(reader, groups)
    blocks = tuple(reader.read(part) for part in groups)
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(blocks)


def _weights_and_biases(reader: Reader, groups: Sequence[Any]) -> Apart:
    if reader.layer.bias is None:
        raise reader.bad("answer", "WithBias; give the weight's part as it is")
    d_out, d_weight = reader.layer.shape[0] // len(groups), reader.layer.shape[1] - 1
    blocks: list[Operator] = []
    places: list[Place] = []
    for k, part in enumerate(groups):
        if not isinstance(part, WithBias):
            raise reader.bad("answer", f"WithBias for some groups and a {type(part).__name__}")
        group = slice(k * d_out, (k + 1) * d_out)
        blocks.append(reader.read(part.weight, "weight, ", d_weight))
        blocks.append(reader.read(part.bias, "bias, ", 1))
        places += [(group, slice(0, d_weight)), (group, slice(d_weight, d_weight + 1))]
    return Apart(blocks, places)
