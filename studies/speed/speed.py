"""Alternating runs of every library on every model, and how much of ours is eigenvectors."""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.overrides import TorchFunctionMode

from studies.looks import progress
from studies.speed.cases import Case, cases
from studies.speed.floor import floor
from studies.speed.libraries import EKFAC, KFAC, OURS, Library, Vector

TASKS = {"KFAC": KFAC, "EKFAC": EKFAC}
AGREE = 1e-3  # relative
DECOMPOSITIONS = (torch.linalg.eigh, torch.linalg.qr)


@dataclass(frozen=True)
class Timing:
    """One library on one model.

    Attributes:
        library: its name and version.
        seconds: of each run.
        disagreement: of its product with this package's, see ``_disagreement``.
    """

    library: str
    seconds: tuple[float, ...]
    disagreement: float

    @property
    def median(self) -> float:
        """Median over the runs, in seconds."""
        return statistics.median(self.seconds)

    @property
    def agrees(self) -> bool:
        """Whether its answer is this package's; else there is no time to compare with."""
        return self.disagreement < AGREE


@dataclass(frozen=True)
class Measured:
    """One task on one model.

    Attributes:
        task: KFAC or EKFAC.
        case: name of the model.
        ours: this package's runs.
        others: those of the libraries that take the model.
        refusals: {library: its error} of the others.
        floor: median seconds, see ``floor.py``.
        share: of our time, in eigh and qr.
    """

    task: str
    case: str
    ours: Timing
    others: tuple[Timing, ...]
    refusals: dict[str, str]
    floor: float
    share: float

    @property
    def fastest(self) -> float | None:
        """Median seconds of the fastest other library with the same answer; None without one."""
        return min((t.median for t in self.others if t.agrees), default=None)


def report(console: Console, runs: int) -> list[Measured]:
    """Measure and print, one table per model."""
    console.print(f"From data to the first product with a vector, {runs} alternating runs\n")
    found = []
    for case, (task, libraries) in product(cases(), TASKS.items()):
        once = floor(case, task == "EKFAC")
        (ours, *others), refusals, lowest = measure(case, libraries, once, runs, console)
        share = decomposition_share(case, libraries[OURS])
        one = Measured(task, case.name, ours, tuple(others), refusals, lowest, share)
        _print(console, one)
        found.append(one)
    return found


def _print(console: Console, one: Measured) -> None:
    title = f"{one.task}, {one.case}"
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    table.add_column("library")
    for column in ("median s", "range", "ours / it", "product differs by"):
        table.add_column(column, justify="right")
    table.add_row(one.ours.library, f"{one.ours.median:.3f}", _range(one.ours))
    for t in one.others:
        ratio = f"{one.ours.median / t.median:.2f}" if t.agrees else "another answer"
        differs = f"{t.disagreement:.0e}"
        table.add_row(t.library, f"{t.median:.3f}", _range(t), ratio, differs)
    console.print(table)
    for name, refusal in one.refusals.items():
        console.print(f" {name} refuses: {refusal}", markup=False)
    if one.fastest is not None:
        console.print(f" against the fastest other one: {one.ours.median / one.fastest:.2f}")
    console.print(f" against the floor of {one.floor:.3f} s: {one.ours.median / one.floor:.2f}")
    console.print(f" share of ours in eigh and qr: {one.share:.0%}\n")


def measure(
    case: Case,
    libraries: dict[str, Library],
    once: Callable[[], float],
    runs: int,
    console: Console,
) -> tuple[list[Timing], dict[str, str], float]:
    """Timings, this package's first, {library: its error} of those that refuse, and the floor.

    After two runs each that are not timed, all take turns, the floor too (``once``), so that what
    else the machine does meets them alike.
    """
    generator = torch.Generator().manual_seed(1)
    vector = {name: torch.randn(p.shape, generator=generator) for name, p in case.trained.items()}
    # A model of its own for each: one that refuses may leave its hooks behind.
    own = {name: replace(case, model=copy.deepcopy(case.model)) for name in libraries}
    products: dict[str, Vector] = {}
    refusals: dict[str, str] = {}
    for name, library in libraries.items():
        try:
            for _ in range(2):
                products[name] = library(own[name], vector)
        except Exception as error:  # whatever a library says of a model is part of the result
            if name == OURS:
                raise
            refusals[name] = f"{type(error).__name__}: {error}"
    once()  # is not warm
    floors: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in products}
    with progress(console) as bars:
        for _ in bars.track(range(runs), description="timed runs"):
            floors.append(once())
            for name in products:
                start = time.perf_counter()
                libraries[name](own[name], vector)
                seconds[name].append(time.perf_counter() - start)
    ours = products[OURS]
    timings = [
        Timing(name, tuple(seconds[name]), _disagreement(ours, found))
        for name, found in products.items()
    ]
    return timings, refusals, statistics.median(floors)


def _range(timing: Timing) -> str:
    return f"{min(timing.seconds):.3f} - {max(timing.seconds):.3f}"


def _disagreement(one: Vector, other: Vector) -> float:
    """|a - s b| / |a| for products a and b and the best scalar s: each library has its scale."""
    a = torch.cat([v.flatten().double() for v in one.values()])
    b = torch.cat([other[name].flatten().double() for name in one])
    return float((a - b * (a @ b) / (b @ b)).norm() / a.norm())


class _Stopwatch(TorchFunctionMode):
    # Adds up the seconds inside the decompositions.
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


def decomposition_share(case: Case, ours: Library) -> float:
    """Share of this package's time that is spent in eigh and qr: median of five runs."""
    vector = {name: torch.ones_like(p) for name, p in case.trained.items()}
    shares = []
    for _ in range(5):
        start = time.perf_counter()
        with _Stopwatch() as watch:
            ours(case, vector)
        shares.append(watch.seconds / (time.perf_counter() - start))
    return statistics.median(shares)
