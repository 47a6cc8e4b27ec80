"""Two pictures: the loss against steps and seconds, and the errors as the basis ages."""

import math
import statistics
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ekfac_ref.train.ageing import RECOMPUTE_EVERY, Errors
from ekfac_ref.train.compare import Curves, targets
from ekfac_ref.train.run import Curve

# From Okabe and Ito's palette; KFAC and EKFAC as in the demo.
COLOURS = {"SGD": "#333333", "Adam": "#009E73", "KFAC": "#D55E00", "EKFAC": "#0072B2"}
INK, GREY, PALE = "#333333", "#6e6e6e", "#b8b8b8"
WIDTH = 12  # inches, at 200 dpi: 2400 pixels across, to be read at 1200


def draw_losses(path: Path, tasks: dict[str, Curves]) -> None:
    """One row per task: the full training loss against steps, and against seconds."""
    figure = Figure(figsize=(WIDTH, 4.2 * len(tasks) + 0.4), dpi=200, facecolor="white")
    axes = figure.subplots(len(tasks), 2, squeeze=False, sharey="row")
    for row, (task, curves) in zip(axes, tasks.items(), strict=True):
        for name, mine in curves.items():
            steps = [float(mine[0].every * i) for i in range(len(mine[0].losses))]
            _band(row[0], name, steps, mine)
            _band(row[1], name, [statistics.median(s) for s in _by_entry(mine, _seconds)], mine)
        for ax in row:
            _target(ax, statistics.median(targets(curves)))
            _bare(ax)
        row[0].set_xlim(0, steps[-1])
        row[0].set_xlabel("steps", fontsize=12, color=INK)
        row[0].set_ylabel(f"{task}: full training loss", fontsize=12, color=INK)
        row[0].set_yscale("log")
        row[0].set_ylim(*_limits(curves))
        row[1].set_xscale("log")
        row[1].set_xlabel("seconds of training", fontsize=12, color=INK)
    axes[0, 0].legend(frameon=False, fontsize=12, labelcolor="linecolor", loc="upper right")
    figure.tight_layout(w_pad=2, h_pad=2)
    _save(figure, path)


def draw_errors(path: Path, layers: list[Errors]) -> None:
    """One panel per layer; a line where the eigenbases were taken anew."""
    figure = Figure(figsize=(WIDTH, 4.4), dpi=200, facecolor="white")
    axes = figure.subplots(1, len(layers), squeeze=False, sharey=True)[0]
    for ax, e in zip(axes, layers, strict=True):
        for step in range(0, e.steps[-1] + 1, RECOMPUTE_EVERY):
            ax.axvline(step, color=PALE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        for name, values in (("KFAC", e.kfac), ("EKFAC", e.ekfac)):
            ax.plot(e.steps, values, color=COLOURS[name], linewidth=1.8, label=name)
        _bare(ax)
        size = f"{e.size[0]} x {e.size[1]}"
        ax.set_xlabel(f"steps; {e.layer}, {size}", fontsize=12, color=INK)
        ax.set_xlim(0, e.steps[-1])
        ax.set_ylim(0, 1.05 * max(*e.kfac, *e.ekfac))
    axes[0].set_ylabel(r"error  $\|X - F\|\,/\,\|F\|$", fontsize=12, color=INK)
    axes[0].legend(frameon=False, fontsize=12, labelcolor="linecolor", loc="best")
    figure.tight_layout(w_pad=2)
    _save(figure, path)


def _band(ax: Axes, name: str, x: list[float], curves: list[Curve]) -> None:
    """The median over the seeds as a line, their range as a band."""
    y = _by_entry(curves, _losses)
    middle = [statistics.median(losses) for losses in y]
    low, high = [min(losses) for losses in y], [_drawable(max(losses)) for losses in y]
    colour = COLOURS[name]
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    ax.plot(x, middle, color=colour, linewidth=1.6, label=name)


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


def _target(ax: Axes, loss: float) -> None:
    ax.axhline(loss, color=PALE, linewidth=1, linestyle=(0, (4, 3)), zorder=0)


def _bare(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    ax.tick_params(labelsize=11, labelcolor=INK, color=PALE, which="both")
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
