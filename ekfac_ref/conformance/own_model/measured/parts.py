"""The blocks of a problem's layers, told by shapes alone: where each one stands, and what it sees.

What ``Definition.blocks`` makes of what small layers saw, here without having seen anything.
"""

from dataclasses import dataclass

from torch import Tensor

from ekfac_ref.conformance.subjects.attention import Packed, packed
from ekfac_ref.conformance.subjects.definition import Definition, Shared
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class OwnPart:
    """A part of a layer's [d_out, d_in] that is coupled to no other.

    Attributes:
        layer: its name.
        name: of the part within its layer, "" where it is all of it.
        group: which of the layer's groups it belongs to.
        rows, columns: where it stands in [W | b] of all groups.
        shared: whether its A is the mean of those of all groups.
    """

    layer: str
    name: str
    group: int
    rows: slice
    columns: slice
    shared: bool

    @property
    def title(self) -> str:
        """The layer's name, with the part's where there are several."""
        return f"{self.layer}, {self.name}" if self.name else self.layer

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the part alone."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def of(self, V: Tensor) -> Tensor:
        """Its part of V, [d_out, d_in] of the layer, as a view."""
        return V[self.rows, self.columns]


def parts_of(problem: Problem, definition: Definition) -> dict[str, list[OwnPart]]:
    """{layer: its parts}, group by group, the weight's before the bias's."""
    packs = isinstance(definition.attention, Packed)  # whatever the inputs are, as they are unseen
    layers = packed(layers_of(problem), lambda name: packs)
    return {layer.name: _of_layer(problem, definition, layer) for layer in layers}


def _of_layer(problem: Problem, definition: Definition, layer: Layer) -> list[OwnPart]:
    d_out, d_in = layer.shape[0] // layer.groups, layer.shape[1]
    shared = isinstance(definition.A, Shared) and layer.groups > 1
    return [
        OwnPart(
            layer.name,
            ", ".join(filter(None, [f"group {k}" if layer.groups > 1 else "", name])),
            k,
            slice(k * d_out, (k + 1) * d_out),
            columns,
            shared,
        )
        for k in range(layer.groups)
        for name, columns in definition.bias.columns(problem, layer.name, d_in).items()
    ]
