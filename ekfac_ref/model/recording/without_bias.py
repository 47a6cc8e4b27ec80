"""Outputs that biases may yet be added to: which numbers each of their layers gets."""

from collections.abc import Sequence
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

        ``view`` shows all of y, its axes in any order: they are told by their strides.
        """
        if not isinstance(added, Tensor) or view.numel() != self.y.numel():
            return []
        axes = [-1] if self.side is None else [-1, self.side]
        places = [_place(view, self.y.shape[k], self.y.stride(k)) for k in axes]
        if any(place is None or -place > added.dim() for place in places):
            return []
        found = [place for place in places if place is not None]
        sizes = {place: self.y.shape[k] for place, k in zip(found, axes, strict=True)}
        if any(n != sizes.get(k - added.dim(), 1) for k, n in enumerate(added.shape)):
            return []
        if self.side is None:
            return [added.reshape(-1)]
        return [row.reshape(-1) for row in added.movedim(found[::-1], (0, 1))]


def _place(view: Tensor, size: int, stride: int) -> int | None:
    """The last axis of this length and stride, from behind."""
    own = zip(view.shape, view.stride(), strict=True)
    axes = [k - view.dim() for k, one in enumerate(own) if one == (size, stride)]
    return axes[-1] if axes else None
