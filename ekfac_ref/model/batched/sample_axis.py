r"""Where the samples of a batch are among the positions of a layer.

A layer is called on a whole batch, and its output has axes that count positions, [*axes, d_out]
(channels last). A model may keep the samples on any of these, may fold them and its own positions
into one, (N T) or (T N), or may call a layer once for all samples. Shapes leave several readings
open; ``layout.py`` proves one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol, runtime_checkable

from jaxtyping import Shaped
from torch import Tensor


@runtime_checkable
class SampleAxis(Protocol):
    """One way to read the axes of one use of a layer."""

    def fits(self, axes: Sequence[int], N: int) -> bool:
        """Whether axes of these sizes can be read so, with N samples in them."""

    def of_all(self, axes: Sequence[int], N: int) -> Sequence[int]:
        """The sizes where every sample has positions of its own."""

    def apart(self, x: Shaped[Tensor, "..."], axes: int, N: int) -> Shaped[Tensor, "N T ..."]:
        """What has so many axes as ``of_all`` says, and more: samples first, then positions."""


SampleAxes = dict[str, list[SampleAxis]]  # {layer: how each of its uses is read}


@dataclass(frozen=True)
class Alone:
    """There is one sample, and everything is its own."""

    def fits(self, axes: Sequence[int], N: int) -> bool:
        """If there is one sample."""
        return N == 1

    def of_all(self, axes: Sequence[int], N: int) -> Sequence[int]:
        """All axes as they are."""
        return axes

    def apart(self, x: Shaped[Tensor, "..."], axes: int, N: int) -> Shaped[Tensor, "N T ..."]:
        """All axes count positions of the one sample."""
        return _positions(x[None], axes + 1)


@dataclass(frozen=True)
class Along:
    """Samples lie along an axis, with ``each`` of its entries for every sample.

    Attributes:
        axis: its number.
        each: how many.
        samples_first: whether the entries of one sample are neighbours, (N each), or those that
            all samples have at one place, (each N).
    """

    axis: int
    each: int
    samples_first: bool = True

    def fits(self, axes: Sequence[int], N: int) -> bool:
        """If the axis is N times ``each`` long."""
        return self.axis < len(axes) and axes[self.axis] == N * self.each

    def of_all(self, axes: Sequence[int], N: int) -> Sequence[int]:
        """All axes as they are."""
        return axes

    def apart(self, x: Shaped[Tensor, "..."], axes: int, N: int) -> Shaped[Tensor, "N T ..."]:
        """The axis in two, and that of the samples to the front."""
        sizes = (N, self.each) if self.samples_first else (self.each, N)
        samples = self.axis if self.samples_first else self.axis + 1
        return _positions(x.unflatten(self.axis, sizes).movedim(samples, 0), axes + 1)


@dataclass(frozen=True)
class OnceForAll:
    """The layer is called once for all samples, on what depends on none of them (positions, say).

    Attributes:
        axis: of size 1, which the model repeats for every sample; None for a new one in front.
    """

    axis: int | None

    def fits(self, axes: Sequence[int], N: int) -> bool:
        """If there is such an axis of size 1."""
        return self.axis is None or (self.axis < len(axes) and axes[self.axis] == 1)

    def of_all(self, axes: Sequence[int], N: int) -> Sequence[int]:
        """That axis N long, or one more."""
        if self.axis is None:
            return (N, *axes)
        return (*axes[: self.axis], N, *axes[self.axis + 1 :])

    def apart(self, x: Shaped[Tensor, "..."], axes: int, N: int) -> Shaped[Tensor, "N T ..."]:
        """The samples' axis to the front."""
        return _positions(x.movedim(self.axis or 0, 0), axes)


def readings(one: Sequence[int], several: Sequence[int], N: int) -> tuple[SampleAxis, ...]:
    """How the axes of a use can be read that are ``one`` for one sample, ``several`` for N > 1."""
    if tuple(one) == tuple(several):
        return (*(OnceForAll(k) for k, size in enumerate(one) if size == 1), OnceForAll(None))
    if len(one) != len(several):
        return ()
    other = [k for k, (n, m) in enumerate(zip(one, several, strict=True)) if n != m]
    if len(other) > 1 or several[other[0]] != N * one[other[0]]:
        return ()
    (axis,) = other
    both = (True, False) if one[axis] > 1 else (True,)
    return tuple(Along(axis, one[axis], first) for first in both)


def _positions(x: Tensor, axes: int) -> Tensor:
    """[N, *axes, *rest] as [N, T, *rest]."""
    return x.reshape(len(x), prod(x.shape[1:axes]), *x.shape[axes:])
