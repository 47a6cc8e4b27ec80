"""What is kept of the curvature between updates: plain frozen values."""

from dataclasses import dataclass, field

from ekfac_ref.matrix.lookup import LookupEigenKronecker, LookupKronecker, kronecker_product
from ekfac_ref.matrix.operators import BlockDiagonal, EigenKronecker, Kronecker, direct_sum
from ekfac_ref.optim.reading import Key
from ekfac_ref.optim.running import RunningMean

InBasis = EigenKronecker | LookupEigenKronecker


@dataclass(frozen=True, eq=False)
class BlockState:
    """What is kept of one block, a layer or one group of it, for the unit likelihood.

    Attributes:
        A: running mean over input rows: positions (Expand) or samples (Reduce); of words that are
            looked up, its diagonal, as long as nothing else is in it.
        B: running mean over samples.
        operator: the curvature that gradients are preconditioned with, its bases full and square.
    """

    A: RunningMean
    B: RunningMean
    operator: InBasis


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
    blocks: dict[Key, BlockState] = field(default_factory=dict)

    def operators(self) -> dict[str, InBasis | BlockDiagonal]:
        """{layer: operator} of the unit likelihood."""
        return {name: direct_sum([b.operator for b in bs]) for name, bs in self._layers().items()}

    def factors(self) -> dict[str, Kronecker | LookupKronecker | BlockDiagonal]:
        """{layer: B (x) A} of the running factors."""
        return {
            name: direct_sum([kronecker_product(b.B.mean, b.A.mean) for b in blocks])
            for name, blocks in self._layers().items()
        }

    def _layers(self) -> dict[str, list[BlockState]]:
        found: dict[str, list[BlockState]] = {}
        for (name, _), block in self.blocks.items():
            found.setdefault(name, []).append(block)
        return found
