"""Two pictures: the loss against steps and seconds, and the errors as the basis ages."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes

from studies.looks import COLOURS, DASHED, GREY, INK, PALE, legend, panels, plain_numbers, save
from studies.training.ageing import RECOMPUTE_EVERY, Errors
from studies.training.compare import Curves, targets
from studies.training.run import Curve


def draw_losses(path: Path, tasks: dict[str, Curves]) -> None:
    """One row per task: the full training loss against steps, and against seconds."""
    figure, axes = panels(len(tasks), 2, height=4.2 * len(tasks) + 0.4)
    for (left, right), (task, curves) in zip(axes, tasks.items(), strict=True):
        for name, mine in curves.items():
            steps = [float(mine[0].every * i) for i in range(len(mine[0].losses))]
            _band(left, name, steps, mine)
            _band(right, name, [statistics.median(s) for s in _by_entry(mine, _seconds)], mine)
        left.set_xlim(0, max(mine[0].last_step for mine in curves.values()))
        left.set_ylim(*_limits(curves))  # and with it the right one's
        for ax in (left, right):
            goal = statistics.median(targets(curves))
            ax.axhline(goal, color=GREY, linewidth=1, linestyle=DASHED, zorder=0)
            plain_numbers(ax)
        right.set_xscale("log")
        _name_the_target(right, goal)
        left.set_xlabel("steps", fontsize=12, color=INK)
        right.set_xlabel("seconds of training", fontsize=12, color=INK)
        left.set_ylabel(f"{task}: full training loss", fontsize=12, color=INK)
    legend(axes[0][0])
    save(figure, path)


def draw_errors(path: Path, layers: list[Errors]) -> None:
    """One panel per layer; a line where the eigenbases were taken anew."""
    figure, (axes,) = panels(1, len(layers), height=4.4)
    for ax, e in zip(axes, layers, strict=True):
        for step in range(0, e.steps[-1] + 1, RECOMPUTE_EVERY):
            ax.axvline(step, color=PALE, linewidth=1, linestyle=DASHED, zorder=0)
        for name, values in (("KFAC", e.kfac), ("EKFAC", e.ekfac)):
            ax.plot(e.steps, values, color=COLOURS[name], linewidth=1.8, label=name)
        ax.set_title(f"{e.layer}, {e.size[0]} x {e.size[1]}", fontsize=12, color=INK)
        ax.set_xlabel("steps; dashed: new eigenbases", fontsize=12, color=INK)
        ax.set_xlim(0, e.steps[-1])
    plain_numbers(axes[0])
    axes[0].set_ylabel(r"error  $\|X - F\|\,/\,\|F\|$", fontsize=12, color=INK)
    legend(axes[0])
    save(figure, path)


def _band(ax: Axes, name: str, x: list[float], curves: list[Curve]) -> None:
    """The median over the seeds as a line, their range as a band."""
    y = _by_entry(curves, _losses)
    middle = [statistics.median(losses) for losses in y]
    low, high = [min(losses) for losses in y], [_drawable(max(losses)) for losses in y]
    ax.fill_between(x, low, high, color=COLOURS[name], alpha=0.18, linewidth=0)
    ax.plot(x, middle, color=COLOURS[name], linewidth=1.6, label=name)


def _name_the_target(ax: Axes, loss: float) -> None:
    name = ax.annotate(
        "the target: SGD's last",
        xy=(0.02, loss),
        xycoords=ax.get_yaxis_transform(),
        xytext=(0, 4),
        textcoords="offset points",
        annotation_clip=True,
        fontsize=10.5,
        color=GREY,
    )
    name.set_in_layout(False)


def _losses(curve: Curve) -> tuple[float, ...]:
    return curve.losses


def _seconds(curve: Curve) -> tuple[float, ...]:
    return curve.seconds


def _by_entry(
    curves: list[Curve], of: Callable[[Curve], tuple[float, ...]]
) -> list[tuple[float, ...]]:
    """For each entry of the curves, the numbers of all seeds."""
    return list(zip(*map(of, curves), strict=True))


def _drawable(loss: float) -> float:
    return loss if math.isfinite(loss) else 1e9  # above every picture


def _limits(curves: Curves) -> tuple[float, float]:
    """From the lowest loss to a little above the highest one before training."""
    every = [curve.losses for mine in curves.values() for curve in mine]
    lowest, highest = min(map(min, every)), max(losses[0] for losses in every)
    margin = (highest / lowest) ** 0.04
    return lowest / margin, highest * margin
