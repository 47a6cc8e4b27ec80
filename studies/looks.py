"""How every panel looks: colours, bare axes, plain numbers."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

# From Okabe and Ito's palette; KFAC and EKFAC as in the demo.
COLOURS = {"SGD": "#333333", "Adam": "#009E73", "KFAC": "#D55E00", "EKFAC": "#0072B2"}
INK, GREY, PALE = "#333333", "#6e6e6e", "#b8b8b8"
DASHED = (0, (4, 3))


def panels(rows: int, columns: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """12 inches wide at 200 dpi: 2400 pixels across, to be read at 1200. Rows share their y."""
    figure = Figure(figsize=(12, height), dpi=200, facecolor="white")
    axes = [list(row) for row in figure.subplots(rows, columns, squeeze=False, sharey="row")]
    for ax in (ax for row in axes for ax in row):
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(PALE)
        ax.tick_params(labelsize=11, labelcolor=INK, color=PALE, which="both")
        ax.grid(axis="y", color="#eeeeee")
        ax.set_axisbelow(True)
        ax.set_yscale("log")
    return figure, axes


def legend(ax: Axes) -> None:
    """Names in the colours of their lines."""
    ax.legend(
        handlelength=1.2, frameon=False, fontsize=12, labelcolor="linecolor", loc="upper right"
    )


def plain_numbers(ax: Axes) -> None:
    """20 and 0.5, not powers, on a logarithmic y axis that spans less than two decades."""
    low, high = ax.get_ylim()
    if high / low < 100:
        ax.yaxis.set_major_locator(FixedLocator(_round_numbers(low, high)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
        ax.yaxis.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> None:
    """As PNG."""
    figure.tight_layout(w_pad=2, h_pad=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _round_numbers(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [m * 10.0**d for d in decades for m in (1, 1.5, 2, 3, 4, 6)]
    return [number for number in found if low <= number <= high]
