"""One layer of an operator on all parameters, as the kit asks for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.model.layers import Layer

Product = Callable[[list[Tensor]], Sequence[Tensor]]  # tensors as the parameters are listed


@dataclass(frozen=True, eq=False)
class OfGroups:
    """The diagonal block of a layer, by products with vectors that are zero elsewhere.

    The kit asks for the block of each group of a convolution, so what couples groups is left out.

    Attributes:
        layer: which.
        parameters: all that the operator is about, {name: Parameter}, in its order.
        product: the operator's.
        scale: the library's numbers over the kit's.
    """

    layer: Layer
    parameters: Mapping[str, Tensor]
    product: Product
    scale: float

    def matvec(self, V: Tensor) -> Tensor:
        """The blocks times V, [d_out, d_in]."""
        d, found = len(V) // self.layer.groups, torch.zeros_like(V)
        for k in range(self.layer.groups):
            group = slice(k * d, (k + 1) * d)
            of_group = torch.zeros_like(V)
            of_group[group] = V[group]
            found[group] = self._apply(self.product, of_group)[group] / self.scale
        return found

    def _apply(self, product: Product, V: Tensor) -> Tensor:
        return whole(self.parameters, product, [self.layer], {self.layer.name: V})[self.layer.name]


@dataclass(frozen=True, eq=False)
class OfLayer(OfGroups):
    """That of a layer which is one group, with a ``solve``.

    Attributes:
        inverse: of a damping, the operator's own inverse.
    """

    inverse: Callable[[float], Product]

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        """By the library's own inverse, in its own scale."""
        return self._apply(self.inverse(damping * self.scale), V) * self.scale


def blocks(
    layers: Sequence[Layer],
    parameters: Mapping[str, Tensor],
    product: Product,
    inverse: Callable[[float], Product],
    scale: float,
) -> dict[str, OfGroups]:
    """Those of all layers; a grouped one has no ``solve``, since an inverse mixes groups."""
    return {
        layer.name: OfLayer(layer, parameters, product, scale, inverse)
        if layer.groups == 1
        else OfGroups(layer, parameters, product, scale)
        for layer in layers
    }


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
