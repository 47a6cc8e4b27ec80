"""The best point of a grid, and whether it lies at an end of it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from studies.training.run import Curve
from studies.training.settings import Setting


@dataclass(frozen=True)
class Choice:
    """What tuning found.

    Attributes:
        setting: the one with the lowest full training loss at the end of the budget.
        loss: that loss.
        tried: size of the grid.
        diverged: how many of them ended with an infinite loss.
        ends: what of the setting is the lowest or highest value of the grid.
    """

    setting: Setting
    loss: float
    tried: int
    diverged: int
    ends: tuple[str, ...]


def choose(grid: Sequence[Setting], curves: Sequence[Curve]) -> Choice:
    """The setting with the lowest last loss; ``curves`` are in the order of the grid."""
    last = [curve.losses[-1] for curve in curves]
    best = min(range(len(grid)), key=last.__getitem__)
    diverged = sum(loss == math.inf for loss in last)
    return Choice(grid[best], last[best], len(grid), diverged, _ends(grid[best], grid))


def _ends(setting: Setting, grid: Sequence[Setting]) -> tuple[str, ...]:
    points = [values(point) for point in grid]
    return tuple(
        name
        for name, value in values(setting).items()
        if value in (min(p[name] for p in points), max(p[name] for p in points))
    )


def values(setting: Setting) -> dict[str, float]:
    """What is tuned, by name: {"lr": ..., "damping": ...}, or the learning rate alone."""
    return asdict(setting)
