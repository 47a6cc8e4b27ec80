"""What was measured, as docs/speed.md."""

import datetime
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from studies.machine import processor
from studies.speed.curves import GIVEN_BACK, PASS, Point, by_axis, returned
from studies.speed.libraries import OURS
from studies.speed.memory import FEW, MANY, PROCESSES
from studies.speed.passes import TASKS, Passes
from studies.speed.speed import Measured, Timing

PAGE, PICTURE = Path("docs/speed.md"), Path("docs/speed.png")

_HEAD = """# Speed and memory

Written by `make bench`; do not edit. {date}: {processor}, {threads} threads, Python {python}, torch
{torch}. Back to the [README](../README.md).

## From data to the first product with a vector

Median seconds of {runs} alternating runs, float32, empirical Fisher, expand, weight and bias joint.
In brackets, our time over that one. A floor is what no way around is known of: two forward and
backward passes, the matrix products behind A and B and, for EKFAC, behind Lambda, the eigenproblems
(of as many dimensions as there are rows at most), the product with the vector. Libraries are
compared where they give the same answer up to a factor, to 1e-3 of its length.

"""
_PASSES = """
## In forward and backward passes

How many forward and backward passes over the same data each takes, of the same networks and of one
with depthwise convolutions.

"""
_MEMORY = """
## Time and memory against sizes

![Seconds and mebibytes against samples, tokens, width and depth](speed.png)

A process that computes EKFAC of the MLP has its peak at {few:.1f} MiB with {few_batches} batches,
at {many:.1f} MiB with {many_batches}, medians of {processes} each. Of the networks in the picture,
the largest of each kind, where freed memory is given back at once ({given_back}), so
that no holes in the heap are counted:

"""


def page(
    measured: list[Measured],
    in_passes: Passes,
    peaks: tuple[float, float],
    points: list[Point],
    runs: int,
) -> str:
    """Two tables of times, the picture, and one table of memory."""
    head = _HEAD.format(
        date=datetime.date.today().isoformat(),
        processor=processor(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        runs=runs,
    )
    few, many = peaks
    between = _MEMORY.format(
        few=few,
        many=many,
        few_batches=FEW,
        many_batches=MANY,
        processes=PROCESSES,
        given_back=", ".join(f"`{name}={value}`" for name, value in GIVEN_BACK.items()),
    )
    times, passes = "\n".join(_times(measured)), "\n".join(_passes(in_passes))
    return "\n".join([head + times, _PASSES + passes, between + "\n".join(_memory(points)), ""])


def _times(measured: list[Measured]) -> Iterator[str]:
    libraries = list(dict.fromkeys(name for one in measured for name in _of_all(one)))
    yield f"| network | | ours | floor | {' | '.join(libraries)} |"
    yield "|---" * (4 + len(libraries)) + "|"
    for one in measured:
        ours = one.ours.median
        floor = f"{one.floor:.3f} ({ours / one.floor:.2f})"
        cells = [_cell(ours, _of_all(one).get(name)) for name in libraries]
        yield f"| {one.case} | {one.task} | **{ours:.3f}** | {floor} | {' | '.join(cells)} |"


def _passes(found: Passes) -> Iterator[str]:
    yield f"| network | {' | '.join(TASKS)} |"
    yield "|---" * (1 + len(TASKS)) + "|"
    for name, by_task in found.items():
        yield f"| {name} | {' | '.join(f'{by_task[task]:.1f}' for task in TASKS)} |"


def _of_all(one: Measured) -> dict[str, Timing | None]:
    return {t.library: t for t in one.others} | dict.fromkeys(one.refusals)


def _cell(ours: float, other: Timing | None) -> str:
    if other is None:
        return "refuses"
    return f"{other.median:.3f} ({ours / other.median:.2f})" if other.agrees else "another answer"


def _memory(points: list[Point]) -> Iterator[str]:
    """MiB at the peak, and what ours has beyond the operators, in forwards and backwards."""
    libraries = list(dict.fromkeys(p.library for p in points))
    yield f"| network | {' | '.join(libraries)} | operators | ours without them, in passes |"
    yield "|---" * (3 + len(libraries)) + "|"
    for name, sizes in by_axis().items():
        size = sizes[-1]
        mine = {p.library: p.mebibytes for p in points if p.size == size}
        cells = [f"{mine[x]:.0f} MiB" if x in mine else "refuses" for x in libraries]
        beyond = (mine[OURS] - returned(size)) / mine[PASS]
        ends = f"{returned(size):.0f} MiB | {beyond:.1f}"
        yield f"| {name} {getattr(size, name):,} | {' | '.join(cells)} | {ends} |"
