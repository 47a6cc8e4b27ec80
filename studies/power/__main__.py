"""``python -m studies.power.__main__``: measure, pin the result, write the page."""

import argparse
import datetime
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.progress import Progress

from ekfac_ref.conformance.mutants import MUTANTS
from studies.power.front import with_front_window
from studies.power.measure import (
    ALL,
    DTYPES,
    Alarms,
    Noticed,
    Power,
    Seen,
    Size,
    false_alarms,
    noticed,
    pin,
    pinned,
    resolutions,
)
from studies.power.page import page

# By name: neither the judge nor this count imports the accused.
CORRECT = [
    "ekfac_ref.examples:reference",
    "ekfac_ref.examples:reference_float32",
    "ekfac_ref.examples:hooks",
    "studies.power.correct:definition",
    "studies.power.correct:in_other_signs",
    "studies.power.correct:in_other_order",
    "studies.power.correct:in_rotated_clusters",
]
Map = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]], str], Iterator[Any]]


def main() -> None:
    """Every mutant, and every correct subject, on every set of problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="sets of problems for mutants")
    parser.add_argument("--problems", type=int, default=50, help="in each set")
    parser.add_argument("--shrink", type=float, default=0.5, help="seconds, per mutant and set")
    parser.add_argument("--correct-sets", type=int, default=29, help="for correct subjects")
    parser.add_argument("--blurred", type=int, default=16, help="problems for resolutions")
    parser.add_argument("--page", type=Path, default=Path("docs/mutants.md"))
    parser.add_argument("--front", type=Path, default=Path("README.md"), help="gets the totals")
    parser.add_argument(
        "--correct",
        nargs="*",
        default=CORRECT,
        help="correct subjects; the first offers every lane",
    )
    options = parser.parse_args()
    seeds = range(options.seeds)
    workers = os.cpu_count() or 1
    with (
        Progress() as progress,
        ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):

        def run(task: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], what: str) -> Any:
            rows = list(arguments)
            return progress.track(
                pool.map(task, *zip(*rows, strict=True)), len(rows), description=what
            )

        killed, needed, smallest = _mutants(run, seeds, options.problems, options.shrink)
        alarms = _alarms(run, options.correct, options.correct_sets, options.problems)
        resolution, scale = _resolution(run, options.correct[0], options.blurred)
    power = Power(
        datetime.date.today().isoformat(),
        list(seeds),
        options.problems,
        killed,
        needed,
        smallest,
        alarms,
        resolution,
        scale,
    )
    pin(power)
    power = pinned()  # as everybody will read it
    options.page.write_text(page(power))
    options.front.write_text(with_front_window(options.front.read_text(), power))
    survivors = [m.name for m in MUTANTS.values() if not m.proof and not killed[m.name]]
    print(f"survivors: {survivors or 'none'}")
    print(f"false alarms: {alarms.broken or 'none'} in {sum(alarms.pairs.values())} pairs")


def _mutants(
    run: Map, seeds: range, problems: int, shrink_seconds: float
) -> tuple[dict[str, dict[str, list[int]]], dict[str, int], dict[str, Size]]:
    killed: dict[str, dict[str, list[int]]] = {mutant.name: {} for mutant in MUTANTS.values()}
    needed: dict[str, int] = {}
    smallest: dict[str, Size] = {}
    found: Noticed
    for seed in seeds:
        asked = {name: tuple(laws) or ALL for name, laws in killed.items()}
        tasks = [(name, seed, problems, shrink_seconds, laws) for name, laws in asked.items()]
        for found in run(noticed, tasks, f"mutants, set {seed}"):
            for law in found.first:
                killed[found.mutant].setdefault(law, []).append(found.seed)
            if found.smallest:
                name, first = found.mutant, min(found.first.values())
                needed[name] = max(needed.get(name, 0), first)
                smallest[name] = min(smallest.get(name, found.smallest), found.smallest)
    return killed, needed, smallest


def _alarms(run: Map, subjects: list[str], sets: int, problems: int) -> Alarms:
    # Other sets than the mutants': a law may have been made to fit those.
    tasks = [(s, seed, problems) for seed, s in product(range(100, 100 + sets), subjects)]
    broken = [line for lines in run(false_alarms, tasks, "false alarms") for line in lines]
    return Alarms(dict.fromkeys(subjects, sets * problems), broken)


def _resolution(
    run: Map, subject: str, problems: int
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    laws: dict[str, dict[str, float]] = {}
    scale: dict[str, float] = {}
    for dtype in DTYPES:
        tasks = [(subject, dtype, number, problems) for number in range(problems)]
        seen: list[Seen] = list(run(resolutions, tasks, dtype))
        names = dict.fromkeys(name for one in seen for name in one.laws)
        of_laws = {name: [one.laws[name] for one in seen if name in one.laws] for name in names}
        laws[dtype] = {name: median(values) for name, values in of_laws.items()}
        scale[dtype] = max(one.scale for one in seen)
    return laws, scale


if __name__ == "__main__":
    main()
