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
from dataclasses import replace
from typing import Any

from ekfac_ref.conformance.adapter.conventions import Convention, bias_last
from ekfac_ref.conformance.adapter.parts import Part, PartOperator, Reader, WithBias
from ekfac_ref.conformance.problems.changed import copied
from ekfac_ref.conformance.subjects.attention import packed
from ekfac_ref.conformance.subjects.matrices import BadAnswer, Unread
from ekfac_ref.conformance.subjects.placed import Place, Placed
from ekfac_ref.matrix.operators import BlockDiagonal
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.problem import Problem

Parts = Part | WithBias | Sequence[Part] | Sequence[WithBias]
_Adapted = PartOperator | BlockDiagonal | Placed


def adapted(
    answer: Callable[[Problem], Mapping[str, Any]], convention: Convention | None = None
) -> Callable[[Problem], dict[str, _Adapted]]:
    """A function with the answers as operators, for ``Subject``'s ekfac, kfac and exact_fisher.

    Args:
        answer: a function from a problem to ``{layer: Parts}``, in the implementation's own layout.
        convention: how that is; the default is this package's.

    Raises:
        Unread: by the function returned, where the implementation has answered and that cannot be
            read: parts do not fit the layer as declared, or there is no such layer. What the
            implementation raises itself comes through: it is asked before anything is looked at.
    """
    declared = Convention() if convention is None else convention

    def ask(problem: Problem) -> dict[str, _Adapted]:
        kept = copied(problem)  # as it was before the implementation could change it
        parts = answer(problem)
        try:
            return _operators(declared, kept, parts)
        except BadAnswer as error:
            raise Unread(str(error)) from error
        except Exception as error:
            raise Unread(
                f"it answered, and the adapter cannot read that ({type(error).__name__}: {error})"
            ) from error

    return ask


def _operators(declared: Convention, problem: Problem, parts: Any) -> dict[str, _Adapted]:
    """The operators of all layers."""
    scale = declared.scale(problem)
    layers = layers_of(problem)
    like = layers[0].weight.detach().to(algebra_dtype(problem.dtype))
    answered = set(parts) if isinstance(parts, Mapping) else set[str]()
    readers = {
        layer.name: Reader(
            layer,
            declared,
            scale,
            like,
            "",
            layer.shape[1],
            bias_last if layer.bias is None else declared.bias,
        )
        for layer in packed(layers, answered.__contains__)
    }
    if not isinstance(parts, Mapping) or set(parts) != set(readers):
        got = sorted(parts) if isinstance(parts, Mapping) else type(parts).__name__
        raise BadAnswer(f"the adapter got {got}, expected a dict of {sorted(readers)}")
    return {name: _operator(reader, parts[name]) for name, reader in readers.items()}


def _operator(reader: Reader, parts: Any) -> _Adapted:
    """The operator of one layer, all its groups."""
    groups = parts if isinstance(parts, (list, tuple)) else (parts,)
    if len(groups) != reader.layer.groups:
        raise reader.bad("answer", f"parts for {len(groups)} groups of {reader.layer.groups}")
    if any(isinstance(part, WithBias) for part in groups):
        return _apart(reader, groups)
    blocks = tuple(reader.read(part) for part in groups)
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(blocks)


def _apart(reader: Reader, groups: Sequence[Any]) -> Placed:
    """The operator of a layer with blocks for W and for b, group by group."""
    if reader.layer.bias is None:
        raise reader.bad("answer", "WithBias; give the weight's part as it is")
    d_out, d_weight = reader.layer.shape[0] // len(groups), reader.layer.shape[1] - 1
    of_weight = replace(reader, of="weight, ", d_in=d_weight, bias=bias_last)
    of_bias = replace(reader, of="bias, ", d_in=1, bias=bias_last)
    blocks: list[PartOperator] = []
    places: list[Place] = []
    for k, part in enumerate(groups):
        if not isinstance(part, WithBias):
            raise reader.bad("answer", f"WithBias for some groups and a {type(part).__name__}")
        group = slice(k * d_out, (k + 1) * d_out)
        blocks += [of_weight.read(part.weight), of_bias.read(part.bias)]
        places += [(group, slice(0, d_weight)), (group, slice(d_weight, d_weight + 1))]
    return Placed(blocks, places)
