"""From the curves of all seeds to the figures that are reported."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from studies.training.run import Curve

Curves = dict[str, list[Curve]]  # {optimizer's name: one curve for each seed}


@dataclass(frozen=True)
class Spread:
    """Median over the seeds, and the lowest and highest."""

    median: float
    low: float
    high: float


def spread(numbers: Sequence[float]) -> Spread:
    """Over the seeds; a run that never got there counts as infinite."""
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


@dataclass(frozen=True)
class Figures:
    """One optimizer on one task: steps and seconds to the target, and what a step costs."""

    steps: Spread
    seconds: Spread
    seconds_per_step: Spread
    last_step: int
    last_loss: Spread


def targets(curves: Curves) -> list[float]:
    """For each seed, the full training loss that SGD with momentum ends with."""
    return [curve.losses[-1] for curve in curves["SGD"]]


def figures(curves: Curves) -> dict[str, Figures]:
    """{optimizer's name: its figures}, all to the same targets."""
    goals = targets(curves)
    return {
        name: Figures(
            spread([c.steps_to(goal) for c, goal in zip(mine, goals, strict=True)]),
            spread([c.seconds_to(goal) for c, goal in zip(mine, goals, strict=True)]),
            spread([c.seconds_per_step for c in mine]),
            mine[0].last_step,
            spread([c.losses[-1] for c in mine]),
        )
        for name, mine in curves.items()
    }


def ratio(one: Spread, two: Spread) -> float:
    """Of the medians; not a number where neither got there, or where there was no way to go."""
    return one.median / two.median if two.median else math.nan
