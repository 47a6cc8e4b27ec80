"""What came out, as docs/numerics.md."""

import datetime
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import torch

from ekfac_ref import conformance as ct
from ekfac_ref.conformance.problems.digest import digest
from studies.machine import processor
from studies.numerics.alarms import Asked
from studies.numerics.numerics import Numerics
from studies.numerics.suite import Suite

PAGE = Path("docs/numerics.md")

_HEAD = """# The same verdict under every numerics

Written by `make numerics`; do not edit. {date}: {processor}, Python {python}, torch {torch}, numpy
{numpy}, Hypothesis {hypothesis}. Back to the [README](../README.md).

Each row is in processes of its own, with these variables in their environment. There, the whole
suite is run in a random order; and subjects that are correct, each in other arithmetic, are asked
about drawn problems in float64, float32 and bfloat16. A law that one of them breaks is a false
alarm. It took {minutes:.0f} minutes.

"""
_BETWEEN = """
The problems of a seed are the same everywhere. A report tells their digest: it is `{digest}` for
the first 60 of seed 0 and every ability.

"""


@dataclass(frozen=True)
class Row:
    """One numerics, its suite (None if it was not run), and what correct subjects were asked."""

    numerics: Numerics
    suite: Suite | None
    asked: list[Asked]


def page(rows: list[Row], minutes: float) -> str:
    """Two tables: by numerics and by subject; then every failure, alarm and doubt, if any."""
    head = _HEAD.format(
        date=datetime.date.today().isoformat(),
        processor=processor(),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        hypothesis=hypothesis.__version__,
        minutes=minutes,
    )
    of_seed_0 = digest(ct.draw_problems(ct.Abilities(), 60, 0))
    parts = [head, *_by_numerics(rows), _BETWEEN.format(digest=of_seed_0), *_by_subject(rows)]
    return "".join([*parts, *_lines(rows)])


def _by_numerics(rows: list[Row]) -> Iterator[str]:
    yield "| numerics | environment | tests passed | failed | pairs | false alarms | in doubt |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for row in rows:
        told = ", ".join(f"`{k}={v}`" for k, v in row.numerics.environment.items()) or "as it is"
        suite = f"{row.suite.passed:,} | {row.suite.failed}" if row.suite else "not run | "
        pairs, broken, doubted = _totals(row.asked)
        yield f"| {row.numerics.name} | {told} | {suite} | {pairs:,} | {broken} | {doubted} |\n"
    pairs, broken, doubted = _totals([asked for row in rows for asked in row.asked])
    passed = sum(row.suite.passed for row in rows if row.suite)
    failed = sum(row.suite.failed for row in rows if row.suite)
    yield f"| **all** | | {passed:,} | {failed} | **{pairs:,}** | **{broken}** | {doubted} |\n"


def _totals(asked: list[Asked]) -> tuple[int, int, int]:
    return (
        sum(sum(a.pairs.values()) for a in asked),
        sum(len(a.broken) for a in asked),
        sum(len(a.doubted) for a in asked),
    )


def _by_subject(rows: list[Row]) -> Iterator[str]:
    asked = [a for row in rows for a in row.asked]
    pairs: Counter[str] = Counter()
    for a in asked:
        pairs.update(a.pairs)
    dtypes = ("float64", "float32", "bfloat16")
    yield f"| correct subject | {' | '.join(dtypes)} | pairs | false alarms | in doubt |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for name in dict.fromkeys(key.rpartition(", ")[0] for key in pairs):
        counts = [pairs[f"{name}, {dtype}"] for dtype in dtypes]
        broken = sum(line.startswith(f"{name}, ") for a in asked for line in a.broken)
        doubted = sum(line.startswith(f"{name}, ") for a in asked for line in a.doubted)
        told = " | ".join(f"{n:,}" for n in (*counts, sum(counts)))
        yield f"| {name} | {told} | {broken} | {doubted} |\n"


def _lines(rows: list[Row]) -> Iterator[str]:
    for what, lines in (
        ("Tests that failed", [(r, x) for r in rows if r.suite for x in r.suite.failures]),
        ("False alarms", [(r, x) for r in rows for a in r.asked for x in a.broken]),
        ("In doubt", [(r, x) for r in rows for a in r.asked for x in a.doubted]),
    ):
        if lines:
            yield f"\n{what}:\n\n"
            yield from (f"- {row.numerics.name}: {' '.join(line.split())}\n" for row, line in lines)
