"""Peak memory of ``ekfac`` in a fresh process, on few and on many batches."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

import ekfac_ref as ek
from studies.speed.cases import cases

FEW, MANY = 4, 64
PROCESSES = 5  # they differ by some ten mebibytes


class MadeOnDemand:
    """An iterable of batches of 256 random samples, each made when its turn comes and then lost."""

    def __init__(self, batches: int) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for seed in range(self._batches):
            generator = torch.Generator().manual_seed(seed)
            y = torch.randint(10, (256,), generator=generator)
            yield torch.randn(256, 784, generator=generator), y


def peak(batches: int) -> float:
    """Peak resident memory of this process in MiB, after EKFAC of the MLP on so many batches.

    Read from /proc (Linux): ``getrusage`` would count what the parent process needed before.
    """
    model = cases()[0].model
    ek.ekfac(ek.Problem(model, MadeOnDemand(batches), ek.Categorical(), fisher=ek.Empirical()))
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def report(console: Console) -> tuple[float, float]:
    """Measure each number of batches in processes of their own; print and return the medians."""
    few, many = (statistics.median(_peaks(batches)) for batches in (FEW, MANY))
    console.print(
        f"Peak memory of ekfac, MLP: {few:.1f} MiB on {FEW} batches, {many:.1f} MiB on {MANY}; "
        f"difference {many - few:+.1f} MiB, of medians over {PROCESSES} processes each"
    )
    return few, many


def _peaks(batches: int) -> Iterator[float]:
    code = f"from studies.speed.memory import peak; print(peak({batches}))"
    for _ in range(PROCESSES):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        yield float(run.stdout)
