"""What is kept of the curvature between updates: plain frozen values."""

from dataclasses import dataclass, field
from typing import TypeVar

from ekfac_ref.matrix.operators import BlockDiagonal, EigenKronecker, Kronecker
from ekfac_ref.optim.reading import Key
from ekfac_ref.optim.running import RunningMean

Part = TypeVar("Part", EigenKronecker, Kronecker)


@dataclass(frozen=True, eq=False)
class Block:
    """One block: a layer, or one group of it. All for the unit likelihood.

    Attributes:
        A: running mean over input rows: positions (Expand) or samples (Reduce).
        B: running mean over samples.
        operator: the curvature that gradients are preconditioned with, its bases full and square.
    """

    A: RunningMean
    B: RunningMean
    operator: EigenKronecker


@dataclass(frozen=True, eq=False)
class Curvature:
    """All blocks after so many updates.

    Attributes:
        updates: how many batches were seen.
        scale: from the unit likelihood to the caller's loss, on the last batch.
        blocks: by layer and group.
    """

    updates: int = 0
    scale: float = 1.0
    blocks: dict[Key, Block] = field(default_factory=dict)

    def operators(self) -> dict[str, EigenKronecker | BlockDiagonal]:
        """{layer: operator} of the unit likelihood."""
        return {name: _direct_sum([b.operator for b in bs]) for name, bs in self._layers().items()}

    def factors(self) -> dict[str, Kronecker | BlockDiagonal]:
        """{layer: B (x) A} of the running factors."""
        return {
            name: _direct_sum([Kronecker(b.B.mean, b.A.mean) for b in blocks])
            for name, blocks in self._layers().items()
        }

    def _layers(self) -> dict[str, list[Block]]:
        found: dict[str, list[Block]] = {}
        for (name, _), block in self.blocks.items():
            found.setdefault(name, []).append(block)
        return found


def _direct_sum(blocks: list[Part]) -> Part | BlockDiagonal:
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(tuple(blocks))
