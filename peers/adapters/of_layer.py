"""One layer of an operator on all parameters, as the kit asks for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.model.layers import Layer

Product = Callable[[list[Tensor]], Sequence[Tensor]]  # tensors as the parameters are listed


@dataclass(frozen=True, eq=False)
class OfGroups:
    """The blocks of a convolution's groups, of a block that may couple them.

    The kit asks for the block of each group, so what couples groups is left out; and since an
    inverse mixes them, there is no ``solve``.

    Attributes:
        layer: which.
        product: the library's, with V of [d_out, d_in] for all groups.
        scale: the library's numbers over the kit's.
    """

    layer: Layer
    product: Callable[[Tensor], Tensor]
    scale: float

    def matvec(self, V: Tensor) -> Tensor:
        """The blocks times V, [d_out, d_in]."""
        d, found = len(V) // self.layer.groups, torch.zeros_like(V)
        for k in range(self.layer.groups):
            group = slice(k * d, (k + 1) * d)
            of_group = torch.zeros_like(V)
            of_group[group] = V[group]
            found[group] = self.product(of_group)[group] / self.scale
        return found


@dataclass(frozen=True, eq=False)
class OfLayer(OfGroups):
    """That of a layer which is one group, with the library's own inverse.

    Attributes:
        inverse: of a damping, the product with the inverse.
    """

    inverse: Callable[[float], Callable[[Tensor], Tensor]]

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        """(M + damping I)^-1 V, the damping in the library's scale."""
        return self.inverse(damping * self.scale)(V) * self.scale


def blocks(
    layers: Sequence[Layer],
    parameters: Mapping[str, Tensor],
    product: Product,
    inverse: Callable[[float], Product],
    scale: float,
) -> dict[str, OfGroups]:
    """Those of all layers, by products with vectors that are zero in the others."""

    def on(layer: Layer, product: Product) -> Callable[[Tensor], Tensor]:
        return lambda V: whole(parameters, product, [layer], {layer.name: V})[layer.name]

    def block(layer: Layer) -> OfGroups:
        if layer.groups > 1:
            return OfGroups(layer, on(layer, product), scale)
        return OfLayer(layer, on(layer, product), scale, lambda d: on(layer, inverse(d)))

    return {layer.name: block(layer) for layer in layers}


def whole(
    parameters: Mapping[str, Tensor],
    product: Product,
    layers: Sequence[Layer],
    V: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """A product with V = {layer: [d_out, d_in]}, zero where V has nothing."""
    given = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for layer in layers:
        given |= layer.from_matrix(V[layer.name])
    found = dict(zip(parameters, product(list(given.values())), strict=True))
    return {layer.name: layer.to_matrix(found) for layer in layers}
