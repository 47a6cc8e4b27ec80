"""From the curves of all seeds to the numbers that are reported."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from studies.training.run import Curve

Curves = dict[str, list[Curve]]  # {optimizer's name: one curve for each seed}


@dataclass(frozen=True)
class Spread:
    """The median of one number over the seeds, its lowest and its highest value."""

    median: float
    low: float
    high: float


def spread(numbers: Sequence[float]) -> Spread:
    """Summarise one number per seed; a run that never got to the target counts as infinite."""
    return Spread(statistics.median(numbers), min(numbers), max(numbers))


@dataclass(frozen=True)
class Outcome:
    """What one optimizer did on one task, over the seeds.

    Attributes:
        steps: to the target.
        seconds: to the target, without the time of measuring the full training loss.
        seconds_per_step: mean over a run.
        last_step: number of steps of a run.
        last_loss: full training loss at its end.
    """

    steps: Spread
    seconds: Spread
    seconds_per_step: Spread
    last_step: int
    last_loss: Spread


def targets(curves: Curves) -> list[float]:
    """For each seed, the full training loss that SGD with momentum ends with."""
    return [curve.losses[-1] for curve in curves["SGD"]]


def outcomes(curves: Curves) -> dict[str, Outcome]:
    """{optimizer's name: its outcome}; in each seed all have the same target."""
    return {name: _outcome(mine, targets(curves)) for name, mine in curves.items()}


def _outcome(curves: list[Curve], targets: list[float]) -> Outcome:
    pairs = list(zip(curves, targets, strict=True))
    return Outcome(
        steps=spread([curve.steps_to(target) for curve, target in pairs]),
        seconds=spread([curve.seconds_to(target) for curve, target in pairs]),
        seconds_per_step=spread([curve.seconds_per_step for curve in curves]),
        last_step=curves[0].last_step,
        last_loss=spread([curve.losses[-1] for curve in curves]),
    )


def ratio(one: Spread, two: Spread) -> float:
    """one.median / two.median; NaN if two's median is 0 or both are infinite."""
    return one.median / two.median if two.median else math.nan
