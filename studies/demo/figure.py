"""One picture: a layer's three matrices with their differences, and the errors of every layer."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from torch import Tensor

from studies.demo.table import Blocks, Row
from studies.looks import COLOURS, DASHED, GREY, INK, PALE, WIDTH, quiet, relative, save, sheet

HEIGHT = 7.0  # inches
KFAC, EKFAC = COLOURS["KFAC"], COLOURS["EKFAC"]
DIVERGING = "RdBu_r"  # white is zero
SIDE = 0.172  # of a matrix, as a share of the width
LEFT = (0.050, 0.232, 0.414, 0.632, 0.814)  # F, K, E, and at a distance K - F, E - F


def draw(path: Path, caption: str, b: Blocks, rows: list[Row]) -> None:
    """Write the PNG: the matrices of one layer above, the errors of all layers below."""
    figure = sheet(HEIGHT)
    figure.text(LEFT[0], 0.950, caption, fontsize=12, color=INK)
    _matrices(figure, b)
    _errors(figure, rows)
    save(figure, path)


def _matrices(figure: Figure, b: Blocks) -> None:
    """F, K and E on one colour scale, the two differences on one of their own."""
    values, errors = _symmetric_log(b.F), _symmetric_log(b.K - b.F)
    panels = (
        (b.F, values, "exact  $F$", INK),
        (b.K, values, r"KFAC  $K = B \otimes A$", KFAC),
        (b.E, values, "EKFAC  $E$", EKFAC),
        (b.K - b.F, errors, f"$K - F$,  error {relative(b.K, b.F):.2f}", KFAC),
        (b.E - b.F, errors, f"$E - F$,  error {relative(b.E, b.F):.2f}", EKFAC),
    )
    for left, (matrix, norm, name, colour) in zip(LEFT, panels, strict=True):
        axes = figure.add_axes((left, 0.625, SIDE, SIDE * WIDTH / HEIGHT))
        axes.imshow(matrix.numpy(), cmap=DIVERGING, norm=norm, interpolation="nearest")
        axes.set_xlabel(name, fontsize=12.5, color=colour, labelpad=7)
        _name_the_rows(axes, *b.size, labels=left == LEFT[0])
    _colour_bar(figure, values, "entries", (LEFT[0] + LEFT[2] + SIDE) / 2)
    _colour_bar(figure, errors, "differences", (LEFT[3] + LEFT[4] + SIDE) / 2)


def _symmetric_log(matrix: Tensor) -> SymLogNorm:
    """Linear up to a tenth of the largest entry, logarithmic above; zero in the middle."""
    largest = matrix.abs().max().item()
    return SymLogNorm(linthresh=largest / 10, vmin=-largest, vmax=largest)


def _name_the_rows(axes: Axes, d_out: int, d_in: int, labels: bool) -> None:
    """A tick for each output, which owns d_in consecutive rows of the matrix."""
    axes.set_xticks([])
    middles = [d_in * (o + 0.5) - 0.5 for o in range(d_out)]
    axes.set_yticks(middles, [str(o + 1) for o in range(d_out)])
    axes.tick_params(length=0, labelsize=9.5, labelcolor=INK, labelleft=labels)
    axes.set_ylabel(f"output, {d_in} rows each" if labels else "", fontsize=10.5, color=INK)
    axes.spines[:].set_color(PALE)


def _colour_bar(figure: Figure, norm: SymLogNorm, what: str, centre: float) -> None:
    axes = figure.add_axes((centre - 0.12, 0.545, 0.24, 0.013))
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), axes, orientation="horizontal")
    bar.minorticks_off()
    ticks = [share * (norm.vmax or 0.0) for share in (-1, -0.1, 0, 0.1, 1)]
    bar.set_ticks(ticks, labels=[f"${tick:.2g}$" for tick in ticks])
    bar.outline.set_visible(False)
    axes.tick_params(length=3, color=PALE, labelsize=9.5, labelcolor=INK)
    axes.set_xlabel(f"{what}, logarithmic beyond the inner ticks", fontsize=9.5, color=GREY)


def _errors(figure: Figure, rows: list[Row]) -> None:
    """One dot per layer and method; the line between the two is what EKFAC gains."""
    names = list(dict.fromkeys((r.network, r.layer) for r in rows))
    networks = list(dict.fromkeys(network for network, _ in names))
    heights = {name: -i - 0.6 * networks.index(name[0]) for i, name in enumerate(names)}
    right = max(1.19, 1.05 * max(r.kfac_error for r in rows))
    fishers = dict.fromkeys(r.fisher for r in rows)
    for left, fisher in zip((0.137, 0.576), fishers, strict=True):
        axes = figure.add_axes((left, 0.090, 0.41, 0.355))
        mine = [r for r in rows if r.fisher == fisher]
        _dots(axes, mine, [heights[r.network, r.layer] for r in mine])
        label = rf"error  $\|X - F\|\,/\,\|F\|$,  {fisher} Fisher"
        axes.set_xlabel(label, fontsize=12, color=INK, labelpad=6)
        axes.set_yticks(list(heights.values()), [" ".join(name) for name in names])
        quiet(axes, values="x")
        axes.tick_params(length=0, labelleft=left < 0.5)
        axes.spines["left"].set_visible(False)
        axes.set(xlim=(0, right), ylim=(min(heights.values()) - 0.6, 0.8))


def _dots(axes: Axes, rows: list[Row], y: list[float]) -> None:
    K, E = [r.kfac_error for r in rows], [r.ekfac_error for r in rows]
    axes.hlines(y, E, K, color=PALE, linewidth=2.5, zorder=1)
    # The blue dot is smaller: where the two coincide, the other one shows as a ring.
    axes.scatter(K, y, s=110, color=KFAC, edgecolor="white", zorder=2)
    axes.scatter(E, y, s=60, color=EKFAC, edgecolor="white", linewidth=0.8, zorder=3)
    axes.axvline(1, color=PALE, linewidth=1, linestyle=DASHED, zorder=0)
    for x, name, colour, side in (
        (K[0] + 0.027, "KFAC", KFAC, "left"),
        (E[0] - 0.022, "EKFAC", EKFAC, "right"),
    ):
        white = {"color": "white", "pad": 1}
        axes.text(x, y[0], name, color=colour, ha=side, va="center", fontsize=12, bbox=white)
    axes.text(1.01, y[-1] - 0.35, "as far as the\nzero matrix", color=GREY, fontsize=9.5)
