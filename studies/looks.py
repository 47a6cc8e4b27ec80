"""How every study looks: its colours, its axes, its progress bar; and the one measure of an error.

Pictures are 12 inches wide at 200 dpi: 2400 pixels across, to be read at 1200.
"""

from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from torch import Tensor

WIDTH = 12  # inches
# From Okabe and Ito's palette, which the colour-blind can tell apart.
COLOURS = {"SGD": "#333333", "Adam": "#009E73", "KFAC": "#D55E00", "EKFAC": "#0072B2"}
INK, GREY, PALE, GRID = "#333333", "#6e6e6e", "#b8b8b8", "#eeeeee"
DASHED = (0, (4, 3))


def sheet(height: float) -> Figure:
    """An empty white figure, 12 inches wide and ``height`` inches high."""
    return Figure(figsize=(WIDTH, height), dpi=200, facecolor="white")


def quiet(ax: Axes, values: Literal["x", "y"]) -> None:
    """Pale lines on two sides only, and behind the data a grid for ``values``, the x or y axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(PALE)
    ax.tick_params(labelsize=11, labelcolor=INK, color=PALE, which="both")
    ax.grid(axis=values, color=GRID)
    ax.set_axisbelow(True)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, in a folder that is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def progress(console: Console) -> Progress:
    """Bars with a count and the time left; a task may have a ``note``, printed behind both."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        _Note(),
        console=console,
    )


class _Note(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields.get("note", ""), style="dim")


def relative(X: Tensor, F: Tensor) -> float:
    """||X - F|| / ||F|| in the Frobenius norm: 0 where X = F, 1 for X = 0."""
    return ((X - F).norm() / F.norm()).item()
