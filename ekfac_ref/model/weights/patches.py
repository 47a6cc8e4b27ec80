"""What the weight of a convolution multiplies, by a strided view.

The identity weight (``linear_form.py``) says the same by multiplying with ones and zeros: as many
times as the layer itself multiplies, times in / out and the size of the kernel.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

_APART = 16  # entries between columns: at a distance of a power of two they share lines of a cache


def rows_of_patches(
    arguments: dict[str, Any], groups: int, one: float | None
) -> Shaped[Tensor, "T groups d_in"]:
    """A copy in which every patch is a row, with ``one`` behind it, if it is given.

    Columns are contiguous in memory: along an image patches are, too, while a row is made of
    pieces as short as the kernel, and takes up to ten times as long.
    """
    of_patches = patches(arguments, groups)
    n = of_patches.dim() - arguments["weight"].dim()  # axes in front of groups
    axes, parts = of_patches.shape[:n], of_patches.shape[n + 1 :]
    d, T = prod(parts), prod(axes)
    columns = of_patches.new_empty(groups, d + (one is not None), T + _APART)[..., :T]
    by_columns = of_patches.movedim(tuple(range(n)), tuple(range(-n, 0)))
    columns[:, :d].unflatten(2, axes).unflatten(1, parts).copy_(by_columns)
    if one is not None:
        columns[:, d] = one
    return columns.movedim(2, 0)


def patches(arguments: dict[str, Any], groups: int) -> Shaped[Tensor, "*axes"]:
    """[*samples, *out, groups, channels, *kernel] of one call, by its arguments' names.

    A patch runs over the channels of its group, then over the kernel, as the weight's rows do.
    """
    x, kernel = arguments["input"], arguments["weight"].shape[2:]
    axes = len(kernel)
    stride, dilation = (_of_every(arguments.get(name, 1), axes) for name in ("stride", "dilation"))
    before_after = _padding(arguments.get("padding", 0), kernel, dilation)
    x = F.pad(x, [n for pair in reversed(before_after) for n in pair])
    first = x.dim() - axes
    for axis, (k, step, apart) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(first + axis, apart * (k - 1) + 1, step)[..., ::apart]
    x = x.unflatten(first - 1, (groups, -1))  # [*samples, groups, channels, *out, *kernel]
    out = range(first + 1, first + 1 + axes)
    return x.movedim(tuple(out), tuple(range(first - 1, first - 1 + axes)))


def _of_every(given: int | Sequence[int], axes: int) -> Sequence[int]:
    """One number may stand for all axes."""
    several = (given,) if isinstance(given, int) else tuple(given)
    return several * axes if len(several) == 1 else several


def _padding(
    given: str | int | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros before and after every axis; 'same' puts the odd one behind."""
    if given == "valid":
        return [(0, 0)] * len(kernel)
    if given == "same":
        totals = [apart * (k - 1) for k, apart in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    assert not isinstance(given, str)
    return [(n, n) for n in _of_every(given, len(kernel))]
