"""One picture: the full training loss of every optimizer, against steps and against seconds."""

import math
import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from studies.looks import COLOURS, DASHED, GREY, INK, quiet, save, sheet
from studies.training.outcomes import Curves, targets
from studies.training.run import Curve

_TITLE: dict[str, Any] = {"fontsize": 13, "color": INK, "loc": "left", "pad": 10}


def draw(path: Path, tasks: dict[str, Curves]) -> None:
    """Write the PNG: one row per task, steps on the left, seconds on the right."""
    figure = sheet(4.6 * len(tasks) + 0.8)
    axes = figure.subplots(len(tasks), 2, squeeze=False, sharey="row")
    for (left, right), (task, curves) in zip(axes, tasks.items(), strict=True):
        for ax in (left, right):
            quiet(ax, values="y")
            ax.set_yscale("log")
        for name, mine in curves.items():
            steps = [float(mine[0].every * i) for i in range(len(mine[0].losses))]
            seconds = zip(*(curve.seconds for curve in mine), strict=True)
            _band(left, name, steps, mine)
            _band(right, name, list(map(statistics.median, seconds)), mine)
        left.set_xlim(0, max(mine[0].last_step for mine in curves.values()))
        left.set_ylim(*_limits(curves))  # and with it the right one's
        target = statistics.median(targets(curves))
        for ax in (left, right):
            ax.axhline(target, color=GREY, linewidth=1, linestyle=DASHED, zorder=0)
            _plain_numbers(ax)
        right.set_xscale("log")
        _name_the_target(right, target)
        left.set_title(f"{task} on digits, by steps", **_TITLE)
        right.set_title(f"{task} on digits, by time", **_TITLE)
        left.set_xlabel("steps", fontsize=12, color=INK)
        right.set_xlabel("seconds of training", fontsize=12, color=INK)
        left.set_ylabel("loss on all training data", fontsize=12, color=INK)
    names = {"labelcolor": "linecolor", "fontsize": 12, "handlelength": 1.2}
    axes[0][0].legend(frameon=False, loc="upper right", **names)
    figure.tight_layout(w_pad=2, h_pad=2, rect=(0, 0.05, 1, 1))
    figure.text(0.01, 0.01, _caption(tasks), fontsize=11, color=GREY, linespacing=1.5)
    save(figure, path)


def _caption(tasks: dict[str, Curves]) -> str:
    """What lines and bands are, and why some curves end before others."""
    curves = next(iter(tasks.values()))
    ends: dict[int, list[str]] = {}
    for name, mine in curves.items():
        ends.setdefault(mine[0].last_step, []).append(name)
    given = "; ".join(f"{' and '.join(names)}: {steps:,} steps" for steps, names in ends.items())
    seeds = len(next(iter(curves.values())))
    return (
        f"Lines: medians of {seeds} seeds; bands: from the lowest to the highest of them.\n"
        f"Each curve ends where training was ended: {given}."
    )


def _band(ax: Axes, name: str, x: list[float], curves: list[Curve]) -> None:
    """The median over the seeds as a line, their range as a band."""
    y = list(zip(*(curve.losses for curve in curves), strict=True))
    low, high = [min(losses) for losses in y], [_drawable(max(losses)) for losses in y]
    ax.fill_between(x, low, high, color=COLOURS[name], alpha=0.18, linewidth=0)
    ax.plot(x, list(map(statistics.median, y)), color=COLOURS[name], linewidth=1.6, label=name)


def _drawable(loss: float) -> float:
    return loss if math.isfinite(loss) else 1e9  # above every picture


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


def _limits(curves: Curves) -> tuple[float, float]:
    """From the lowest loss to a little above the highest one before training."""
    every = [curve.losses for mine in curves.values() for curve in mine]
    lowest, highest = min(map(min, every)), max(losses[0] for losses in every)
    margin = (highest / lowest) ** 0.04
    return lowest / margin, highest * margin


def _plain_numbers(ax: Axes) -> None:
    """20 and 0.5, not powers, on a logarithmic y axis that spans less than two decades."""
    low, high = ax.get_ylim()
    if high / low < 100:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        round_numbers = [m * 10.0**d for d in decades for m in (1, 1.5, 2, 3, 4, 6)]
        ax.yaxis.set_major_locator(FixedLocator([n for n in round_numbers if low <= n <= high]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
