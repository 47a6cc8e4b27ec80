"""How far KFAC and EKFAC are from the exact block, layer by layer, as numbers and as tables."""

import time
from dataclasses import dataclass

from rich.table import Table
from torch import Tensor

import ekfac_ref as ek
from studies.demo.notebook import NotebookRow
from studies.looks import relative


@dataclass(frozen=True)
class Blocks:
    """The three matrices of one layer, each [P, P] with P = d_out d_in.

    Attributes:
        F: exact Fisher block.
        K: KFAC.
        E: EKFAC.
        size: (d_out, d_in), the bias counted as an input.
        seconds: that all three took together.
    """

    F: Tensor
    K: Tensor
    E: Tensor
    size: tuple[int, int]
    seconds: float


@dataclass(frozen=True)
class Row:
    """One layer under one Fisher: errors ||X - F|| / ||F||, traces tr(X) / tr(F), X = K or E."""

    network: str
    layer: str
    fisher: str
    size: tuple[int, int]
    kfac_error: float
    ekfac_error: float
    kfac_trace: float
    ekfac_trace: float
    seconds: float


def blocks(problem: ek.Problem) -> Blocks:
    """Exact block, KFAC and EKFAC of the problem's only layer, written out."""
    start = time.perf_counter()
    (F,), (K,), (E,) = (f(problem).values() for f in (ek.exact_fisher, ek.kfac, ek.ekfac))
    return Blocks(F.dense(), K.dense(), E.dense(), F.shape, time.perf_counter() - start)


def row(network: str, layer: str, fisher: str, b: Blocks) -> Row:
    """How far K and E of this layer are from F, as numbers."""
    return Row(
        network=network,
        layer=layer,
        fisher=fisher,
        size=b.size,
        kfac_error=relative(b.K, b.F),
        ekfac_error=relative(b.E, b.F),
        kfac_trace=(b.K.trace() / b.F.trace()).item(),
        ekfac_trace=(b.E.trace() / b.F.trace()).item(),
        seconds=b.seconds,
    )


def layer_table(rows: list[Row]) -> Table:
    """One line per layer and Fisher, an empty one between networks."""
    table = _table("net", "layer", "d_out x d_in", "Fisher")
    for column in ("KFAC\nerror", "EKFAC\nerror", "tr K\n/ tr F", "tr E\n/ tr F", "sec"):
        table.add_column(column, justify="right")
    network = layer = None
    for r in rows:
        if network not in (None, r.network):
            table.add_row()
        new = (r.network, r.layer) != (network, layer)
        table.add_row(
            r.network if r.network != network else "",
            r.layer if new else "",
            _size(r.size) if new else "",
            r.fisher,
            f"{r.kfac_error:.3f}",
            f"[bold]{r.ekfac_error:.3f}[/]",
            f"{r.kfac_trace:.3f}",
            f"{r.ekfac_trace:.3f}",
            f"{r.seconds:.2f}",
        )
        network, layer = r.network, r.layer
    return table


def notebook_table(rows: list[NotebookRow]) -> Table:
    """One line per layer and batch size; in red an error that is the notebook's mistake."""
    table = _table("layer", "d_out x d_in", "N")
    against = ("notebook\nkron(UA, UB)", "corrected\nkron(UB, UA)", "ours\nek.ekfac")
    for column in (*against, "corrected\nagainst ours"):
        table.add_column(column, justify="right")
    for r in rows:
        wrong = r.notebook > 2 * r.corrected + 1e-9
        table.add_row(
            r.layer,
            _size(r.size),
            str(r.N),
            f"[bold red]{_error(r.notebook)}[/]" if wrong else _error(r.notebook),
            _error(r.corrected),
            _error(r.reference),
            _error(r.gap),
        )
    return table


def _table(*left: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in left:
        table.add_column(column)
    return table


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]:>2} x {size[1]}"


def _error(value: float) -> str:
    return f"{value:.3f}" if value > 1e-3 else f"{value:.0e}"
