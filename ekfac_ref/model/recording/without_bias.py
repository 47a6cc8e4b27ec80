"""Outputs that biases may yet be added to: which numbers each of their layers gets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from ekfac_ref.model.layers import Layer


@dataclass(frozen=True, eq=False)
class WithoutBias:
    """What one matrix returned, or several side by side.

    Attributes:
        y: in memory of its own, features last.
        of: the layer of each matrix, and its use.
        side: which axis of y counts the matrices, from behind; of one there is none.
    """

    y: Shaped[Tensor, "..."]
    of: Sequence[tuple[Layer, Any]]
    side: int | None = None

    def biases(self, view: Tensor, added: Any) -> list[Shaped[Tensor, " d_out"]]:
        """What is added to each one's features by ``view + added``; nothing if it is no bias.

        ``view`` shows all of y, its axes in any order, and the features on one axis or several: all
        are told by their strides.
        """
        if not isinstance(added, Tensor) or view.numel() != self.y.numel():
            return []
        features = [k for k, (_, step) in _axes(view) if step < self.y.shape[-1]]
        features.sort(key=view.stride, reverse=True)
        sides = [] if self.side is None else [(self.y.shape[self.side], self.y.stride(self.side))]
        axes = [*(k for k, axis in _axes(view) if axis in sides), *features]
        sizes = {k: view.shape[k] for k in axes}
        if len(axes) != len(sides) + len(features):
            return []
        if any(n != sizes.pop(k, 1) for k, (n, _) in _axes(added)) or sizes:
            return []
        rows = added.movedim(axes, [*range(len(axes))])
        return [row.reshape(-1) for row in (rows[None] if self.side is None else rows)]


def _axes(x: Tensor) -> Iterator[tuple[int, tuple[int, int]]]:
    """The axes, counted from behind, with length and stride."""
    yield from zip(range(-x.dim(), 0), zip(x.shape, x.stride(), strict=True), strict=True)
