"""Time and memory of EKFAC against samples, tokens, width and depth, ours and theirs: a figure.

Every point is measured from data to the first product with a vector: the median of three runs in a
process of its own, and in another one the peak of resident memory above what that had before them;
code is loaded before, on a tiny network. Where memory is measured, what is freed is given back at
once: holes in the heap, as large as a tensor that no longer lives, would count as much as what
lives. Batches have 64 samples, so that more samples are more batches.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from studies.looks import GREY, INK, progress, quiet, save, sheet
from studies.speed.cases import Case
from studies.speed.libraries import EKFAC, OURS, Vector
from studies.speed.networks import MeanOverTokens

RUNS = 3
BATCH = 64
PASS = "forward and backward"
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # bytes; of glibc, for tensors of any size here
STYLES = {
    PASS: ("#6e6e6e", "."),
    OURS: ("#0072B2", "o"),
    "curvlinops 3.0.1": ("#D55E00", "s"),
    "nngeometry 0.4": ("#009E73", "^"),
    "kronfluence 1.0.1": ("#CC79A7", "D"),
}


@dataclass(frozen=True)
class Size:
    """A network of linear layers on tokens."""

    samples: int = 256
    tokens: int = 32
    width: int = 128
    depth: int = 4


VARIED = {
    "samples": (64, 256, 1024, 4096),
    "tokens": (2, 8, 32, 128),
    "width": (64, 128, 256, 512),
    "depth": (2, 4, 8, 16),
}


@dataclass(frozen=True)
class Point:
    """One library on one network: median seconds, and mebibytes at the peak."""

    library: str
    size: Size
    seconds: float
    mebibytes: float


def case(size: Size) -> Case:
    """The network with its data, in float32."""
    torch.manual_seed(0)
    hidden = [
        module
        for _ in range(size.depth)
        for module in (nn.Linear(size.width, size.width), nn.ReLU())
    ]
    model = nn.Sequential(*hidden, MeanOverTokens(), nn.Linear(size.width, 10))
    x = torch.randn(size.samples, size.tokens, size.width)
    loader = DataLoader(TensorDataset(x, torch.randint(10, (size.samples,))), batch_size=BATCH)
    return Case(str(size), model.eval(), loader)


def measured(library: str, size: Size) -> tuple[float, float]:
    """(median seconds, mebibytes above what was there before), in this process."""
    given, tiny = (case(s) for s in (size, replace(size, samples=2, tokens=2, width=8)))
    of_given, of_tiny = (
        {name: torch.randn(p.shape) for name, p in one.trained.items()} for one in (given, tiny)
    )
    compute = forward_and_backward if library == PASS else EKFAC[library]
    compute(tiny, of_tiny)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        compute(given, of_given)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), max(_status("VmHWM") - before, 0.1)  # drawn by its log


def forward_and_backward(given: Case, vector: Vector) -> Vector:
    """One pass over the data, for comparison; the vector is not used."""
    for x, y in given.loader:
        torch.autograd.grad(given.loss(given.model(x), y), list(given.trained.values()))
    return vector


def points(console: Console) -> list[Point]:
    """All of them; a library that refuses has none."""
    sizes = list(dict.fromkeys(s for some in by_axis().values() for s in some))
    found = []
    with progress(console) as bars:
        for size in bars.track(sizes, description="sizes"):
            for library in STYLES:
                timed, weighed = (
                    _in_process(library, size, {}),
                    _in_process(library, size, GIVEN_BACK),
                )
                if timed and weighed:
                    found.append(Point(library, size, timed[0], weighed[1]))
    return found


def _in_process(library: str, size: Size, settings: dict[str, str]) -> tuple[float, float] | None:
    """What ``measured`` returns in a process of its own, or None where the library refuses."""
    code = (
        "import json, torch; torch.set_num_threads(1)\n"
        "from studies.speed.curves import Size, measured\n"
        f"print(json.dumps(measured({library!r}, {size!r})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **settings}
    )
    return tuple(json.loads(run.stdout.splitlines()[-1])) if run.returncode == 0 else None


def by_axis() -> dict[str, list[Size]]:
    """{what varies: the sizes}, all else as in ``Size()``."""
    return {name: [replace(Size(), **{name: n}) for n in ns] for name, ns in VARIED.items()}


def draw(path: Path, found: list[Point]) -> None:
    """Write the PNG: seconds above, memory below, and one column for what varies."""
    figure = sheet(7)
    axes = figure.subplots(2, len(VARIED), sharey="row")
    for column, (name, sizes) in enumerate(by_axis().items()):
        for row, what in enumerate(("seconds", "mebibytes")):
            ax: Axes = axes[row][column]
            quiet(ax, values="y")
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            for library, (colour, marker) in STYLES.items():
                mine = {p.size: getattr(p, what) for p in found if p.library == library}
                xy = [(getattr(s, name), mine[s]) for s in sizes if s in mine]
                ax.plot(*zip(*xy, strict=True), color=colour, marker=marker, ms=5, label=library)
            ax.set_xticks(VARIED[name], [f"{n:,}" for n in VARIED[name]])
            ax.minorticks_off()
        axes[0][column].set_title(f"by {name}", fontsize=13, color=INK, loc="left", pad=10)
        axes[1][column].set_xlabel(name, fontsize=12, color=INK)
    axes[0][0].set_ylabel("seconds", fontsize=12, color=INK)
    axes[1][0].set_ylabel("MiB at the peak", fontsize=12, color=INK)
    # Where memory by width leaves room; in the other panels a line would run through it.
    axes[1][2].legend(
        loc="lower right", frameon=False, fontsize=10, labelcolor="linecolor", handlelength=1.2
    )
    base = Size()
    told = (
        f"EKFAC of {base.depth} linear layers of width {base.width} and a head, on {base.samples} "
        f"samples of {base.tokens} tokens in batches of {BATCH}, where nothing else is said; "
        "float32, one thread."
    )
    figure.tight_layout(w_pad=1.5, h_pad=1.5, rect=(0, 0.04, 1, 1))
    figure.text(0.01, 0.012, told, fontsize=10.5, color=GREY)
    save(figure, path)


def report(console: Console, path: Path) -> list[Point]:
    """Measure, draw, and say where the picture is."""
    found = points(console)
    draw(path, found)
    console.print(f"Time and memory by samples, tokens, width and depth: {path}")
    return found


def returned(size: Size) -> float:
    """Mebibytes of the operators that EKFAC returns: Q_A, Q_B and Lambda of every layer."""
    shapes = [(size.width, size.width + 1)] * size.depth + [(10, size.width + 1)]
    return sum(4 * (o * o + i * i + o * i) for o, i in shapes) / 2**20


def _status(what: str) -> float:
    """In MiB, from /proc (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))
