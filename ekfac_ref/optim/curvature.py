"""What is kept of the curvature between updates: plain frozen values."""

from dataclasses import dataclass, field

from torch import nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.matrix.lookup import LookupEigenKronecker, LookupKronecker, kronecker_product
from ekfac_ref.matrix.operators import BlockDiagonal, EigenKronecker, Kronecker, direct_sum
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.model.layers import Layer
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

    def check_dtype(self, layers: tuple[Layer, ...], model: nn.Module) -> None:
        """Raise a ProblemError where a parameter went to a dtype or device that these are not on.

        Half precisions have matrices in float32, as float32 has.
        """
        now = dict(model.named_parameters())
        for layer in layers if self.blocks else ():
            Q = self.blocks[layer.name, 0].operator.Q_B
            for p in (now[name] for name in layer.parameters if name in now):
                if (algebra_dtype(p.dtype), p.device) != (Q.dtype, Q.device):
                    raise ProblemError(
                        f"model: layer {layer.name!r} is now {p.dtype} on {p.device}, but its "
                        f"curvature so far {Q.dtype} on {Q.device}; move the model back, or make a "
                        "new optimizer or preconditioner for the model as it is now."
                    )

    def _layers(self) -> dict[str, list[BlockState]]:
        found: dict[str, list[BlockState]] = {}
        for (name, _), block in self.blocks.items():
            found.setdefault(name, []).append(block)
        return found
