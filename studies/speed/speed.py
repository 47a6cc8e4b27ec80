"""Alternating runs of every library on every model, and how much of ours is eigenvectors."""

import copy
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.overrides import TorchFunctionMode

from studies.speed.cases import Case, cases
from studies.speed.libraries import LIBRARIES, Vector, this_package

ASKED = 1.05
DECOMPOSITIONS = (torch.linalg.eigh, torch.linalg.qr)


@dataclass(frozen=True)
class Timing:
    """One library on one model: seconds of each run, or its own words when it refused."""

    library: str
    seconds: tuple[float, ...]
    disagreement: float
    refusal: str

    @property
    def median(self) -> float:
        """Of the seconds; infinite where it refused."""
        return statistics.median(self.seconds) if self.seconds else float("inf")


def report(console: Console, runs: int) -> None:
    """Measure and print, one table per model."""
    console.print(f"EKFAC to the first product with a vector, {runs} alternating runs\n")
    for case in cases():
        timings = measure(case, runs)
        table = Table(title=case.name, title_justify="left", box=None, header_style="dim")
        table.add_column("library")
        for column in ("median s", "range", "ours / it", "product differs by"):
            table.add_column(column, justify="right")
        for t in (t for t in timings if not t.refusal):
            spread = f"{min(t.seconds):.3f} - {max(t.seconds):.3f}"
            ratio, differs = f"{timings[0].median / t.median:.2f}", f"{t.disagreement:.0e}"
            compared = ("", "") if t is timings[0] else (ratio, differs)
            table.add_row(t.library, f"{t.median:.3f}", spread, *compared)
        console.print(table)
        for t in timings:
            if t.refusal:
                console.print(f" {t.library} refuses: {t.refusal}", markup=False)
        against_the_faster = timings[0].median / min(t.median for t in timings[1:])
        share = decomposition_share(case)
        console.print(f" against the faster: {against_the_faster:.2f} (asked: at most {ASKED})")
        console.print(f" share of ours in eigh and qr: {share:.0%}\n")


def measure(case: Case, runs: int) -> list[Timing]:
    """Ours first; two warm-ups each, then ours, the next, the next, ours ..."""
    generator = torch.Generator().manual_seed(1)
    vector = {
        name: torch.randn(p.shape, generator=generator) for name, p in case.model.named_parameters()
    }
    # A model of its own for each: one that refuses may leave its hooks behind.
    own = {name: replace(case, model=copy.deepcopy(case.model)) for name in LIBRARIES}
    products: dict[str, Vector] = {}
    refusals: dict[str, str] = {}
    for name, library in LIBRARIES.items():
        try:
            for _ in range(2):
                products[name] = library(own[name], vector)
        except Exception as error:  # whatever a library says of a model is part of the result
            if library is this_package:
                raise
            refusals[name] = f"{type(error).__name__}: {error}"
    seconds: dict[str, list[float]] = {name: [] for name in LIBRARIES}
    for _ in track(range(runs), case.name, transient=True):
        for name in products:
            start = time.perf_counter()
            LIBRARIES[name](own[name], vector)
            seconds[name].append(time.perf_counter() - start)
    ours = products["ekfac_ref"]
    return [
        Timing(
            name,
            tuple(seconds[name]),
            _disagreement(ours, products[name]) if name in products else float("nan"),
            refusals.get(name, ""),
        )
        for name in LIBRARIES
    ]


def _disagreement(one: Vector, other: Vector) -> float:
    """Relative, after the best common scalar: every library has a scale of its own."""
    a = torch.cat([v.flatten().double() for v in one.values()])
    b = torch.cat([other[name].flatten().double() for name in one])
    return float((a - b * (a @ b) / (b @ b)).norm() / a.norm())


class _Stopwatch(TorchFunctionMode):
    """Adds up the time inside the decompositions."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        if func in DECOMPOSITIONS:
            self.seconds += time.perf_counter() - start
        return result


def decomposition_share(case: Case) -> float:
    """Of the time of this package, in runs of their own."""
    vector = {name: torch.ones_like(p) for name, p in case.model.named_parameters()}
    shares = []
    for _ in range(5):
        start = time.perf_counter()
        with _Stopwatch() as watch:
            this_package(case, vector)
        shares.append(watch.seconds / (time.perf_counter() - start))
    return statistics.median(shares)
