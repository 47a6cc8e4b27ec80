"""Per-sample gradients, KFAC and EKFAC in units of one forward and backward of the same data."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rich.console import Console

import ekfac_ref as ek
from studies.looks import progress
from studies.speed.cases import Case, cases, depthwise
from studies.speed.floor import one_pass

TASKS: dict[str, Callable[[ek.Problem], Any]] = {
    "per-sample gradients": lambda problem: deque(ek.per_sample_gradients(problem), maxlen=0),
    "KFAC": ek.kfac,
    "EKFAC": ek.ekfac,
}
NETWORKS = ("ResNet-18", "language model")
Passes = dict[str, dict[str, float]]  # {network: {task: how many passes it takes}}


def report(console: Console, runs: int) -> Passes:
    """Of what people wait for, and of depthwise convolutions, where a loop over groups is slow."""
    asked = [case for case in cases() if case.name.startswith(NETWORKS)] + [depthwise()]
    with progress(console) as bars:
        found = {
            case.name: in_passes(case, runs) for case in bars.track(asked, description="passes")
        }
    for name, by_task in found.items():
        told = ", ".join(f"{task} {times:.1f}" for task, times in by_task.items())
        console.print(f"{name}, in passes: {told}")
    return found


def in_passes(case: Case, runs: int) -> dict[str, float]:
    """Medians of alternating runs, of which the first is not timed."""
    seconds: dict[str, list[float]] = {task: [] for task in ("pass", *TASKS)}
    for _ in range(runs + 1):
        for task, of_task in seconds.items():
            start = time.perf_counter()
            one_pass(case) if task == "pass" else TASKS[task](case.problem)
            of_task.append(time.perf_counter() - start)
    medians = {task: statistics.median(of_task[1:]) for task, of_task in seconds.items()}
    return {task: medians[task] / medians["pass"] for task in TASKS}
