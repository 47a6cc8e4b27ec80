"""A block-diagonal operator: several operators, each on its own part of a layer's [W | b]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.subjects.definition import Block

Place = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Placed:
    """A block-diagonal operator on V [d_out, d_in]; nothing couples two blocks.

    Block k acts on ``V[places[k]]``, the rows and columns that are its own.
    """

    blocks: Sequence[Any]
    places: Sequence[Place]

    def matvec(self, V: Tensor) -> Tensor:
        """M V: every block's product, put in its place."""
        return self._everywhere([block.matvec(V[at]) for block, at in self._pairs()], V)

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        """(M + damping I)^-1 V, place by place."""
        parts = [block.solve(V[at], damping=damping) for block, at in self._pairs()]
        return self._everywhere(parts, V)

    def _everywhere(self, parts: list[Tensor], V: Tensor) -> Tensor:
        whole = torch.empty_like(V)
        for part, at in zip(parts, self.places, strict=True):
            whole[at] = part
        return whole

    def _pairs(self) -> list[tuple[Any, Place]]:
        return list(zip(self.blocks, self.places, strict=True))


def put_together(operators: Sequence[Any], blocks: list[Block]) -> Any:
    """One operator for a layer out of those of its blocks."""
    places = [(block.rows, block.columns) for block in blocks]
    return operators[0] if len(operators) == 1 else Placed(operators, places)
