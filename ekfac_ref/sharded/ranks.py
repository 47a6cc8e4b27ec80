"""The processes that hold the data: they go on together, or fail together.

Before anything is added over ranks, each tells the others that it has come so far, or why not. So
a rank that fails does not leave the others waiting for numbers that it will not send.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from ekfac_ref.errors import ProblemError, enough_memory, first_line

Computed = TypeVar("Computed")


@dataclass(frozen=True)
class Failure:
    """Told by a rank instead of what it was to tell.

    Attributes:
        message: of its error, one line.
    """

    message: str


@dataclass(frozen=True)
class Ranks:
    """A group of processes, as this one of them sees it.

    Attributes:
        group: of ``torch.distributed``.
        rank: number of this process in the group.
        size: how many there are.
    """

    group: "dist.ProcessGroup"
    rank: int
    size: int

    @staticmethod
    def of(group: "dist.ProcessGroup | None") -> "Ranks":
        """The ranks of a group, or of all processes; a ProblemError where this is none of them."""
        if not (dist.is_available() and dist.is_initialized()):
            raise ProblemError(
                "group: torch.distributed has no group of processes; start with torchrun and call "
                "torch.distributed.init_process_group('gloo'), or take ekfac_ref.kfac and ekfac, "
                "which are of one process."
            )
        if dist.get_rank(group) < 0:
            raise ProblemError(
                "group: this process is not one of its ranks; call on those alone, or pass None, "
                "which stands for all."
            )
        chosen = group or dist.group.WORLD
        assert chosen is not None
        return Ranks(chosen, dist.get_rank(chosen), dist.get_world_size(chosen))

    def together(
        self,
        compute: Callable[[], Computed],
        tell: Callable[[Computed], Any] = lambda _: None,
    ) -> tuple[Computed, list[Any]]:
        """What this rank computes, and what every rank tells of its own, in their order.

        Raises:
            ProblemError: another rank failed to compute; of several, the first is named. An error
                of this rank itself comes through, once the others know.
        """
        try:
            with enough_memory():
                computed = compute()
                own = tell(computed)
        except Exception as error:
            said = str(error) if isinstance(error, ProblemError) else first_line(error)
            self._gathered(Failure(said))
            raise
        told = self._gathered(own)
        for rank, one in enumerate(told):
            if isinstance(one, Failure):
                raise ProblemError(f"rank {rank} of {self.size} failed: {one.message}")
        return computed, told

    def sums(self, own: list[Tensor]) -> list[Tensor]:
        """The sums over ranks of these tensors, entry by entry: one all_reduce for all of them."""
        flat = torch.cat([tensor.flatten() for tensor in own])
        dist.all_reduce(flat, group=self.group)
        return _cut(flat, own)

    def sent(self, own: list[Tensor], owner: int) -> list[Tensor]:
        """The tensors of one rank, the owner, where others have some of their shapes."""
        flat = torch.cat([tensor.flatten() for tensor in own])
        dist.broadcast(flat, dist.get_global_rank(self.group, owner), group=self.group)
        return _cut(flat, own)

    def _gathered(self, own: Any) -> list[Any]:
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, own, group=self.group)
        return told


def _cut(flat: Shaped[Tensor, " entries"], like: list[Tensor]) -> list[Tensor]:
    parts = flat.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]
