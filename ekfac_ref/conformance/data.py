"""What inputs look like: families that reach the corners of the algebra on purpose.

Each takes float inputs [N, ..., d] and gives inputs of the same shape.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Data = Callable[[Tensor], Tensor]


def plain(x: Tensor) -> Tensor:
    """As drawn."""
    return x


def duplicated(x: Tensor) -> Tensor:
    """All samples but the last are the first one: fewer distinct rows than samples."""
    return torch.cat([x[:1].expand(len(x) - 1, *x.shape[1:]), x[-1:]]) if len(x) > 1 else x


def one_hot(x: Tensor) -> Tensor:
    """Unit vectors in turn: A is diagonal with repeated eigenvalues, and no basis is special."""
    rows = torch.arange(x[..., 0].numel()) % x.shape[-1]
    return torch.eye(x.shape[-1])[rows].reshape(x.shape).to(x)


def badly_scaled(x: Tensor) -> Tensor:
    """Features from 1/100 to 100 times as large."""
    return x * torch.logspace(-2, 2, x.shape[-1]).to(x)


def uncentred(x: Tensor) -> Tensor:
    """Far from zero mean."""
    return x + 3


def dead(x: Tensor) -> Tensor:
    """The first feature is always zero."""
    return torch.cat([torch.zeros_like(x[..., :1]), x[..., 1:]], -1)


FAMILIES: tuple[Data, ...] = (
    *(plain, badly_scaled, uncentred, plain, duplicated, one_hot),
    *(badly_scaled, plain, uncentred, dead, plain),
)
# Those that leave a rate exp(f) within float32.
TAME: tuple[Data, ...] = (plain, plain, duplicated, one_hot, dead)
