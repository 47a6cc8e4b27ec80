"""The page of ``make bench``: whose time is over whose, who refuses, what memory is beyond."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from studies.speed import passes
from studies.speed.cases import Case
from studies.speed.curves import PASS, Point, Size, by_axis, returned
from studies.speed.floor import Seen, floor, sightings
from studies.speed.libraries import OURS
from studies.speed.page import page
from studies.speed.speed import Measured, Timing

PASSES = {"a network": {"per-sample gradients": 7.04, "KFAC": 2.0, "EKFAC": 3.5}}


def timing(library: str, seconds: float, disagreement: float = 0.0) -> Timing:
    return Timing(library, (9.0, seconds, 0.0), disagreement)


MEASURED = Measured(
    "KFAC",
    "a network",
    timing(OURS, 0.3),
    (timing("fast", 0.2), timing("slow", 0.6), timing("other", 0.1, 0.5)),
    {"shy": "NotImplementedError"},
    0.25,
    0.1,
)


def test_ratios_are_ours_over_theirs() -> None:
    points = [
        Point(x, s, 1.0, 10.0)
        for s in {s for ss in by_axis().values() for s in ss}
        for x in (PASS, OURS)
    ]
    written = page([MEASURED], PASSES, (400.0, 401.5), points, 3)
    assert "| network | | ours | floor | fast | slow | other | shy |" in written
    row = "| a network | KFAC | **0.300** | 0.250 (1.20) | 0.200 (1.50) | 0.600 (0.50) |"
    assert f"{row} another answer | refuses |" in written
    assert "400.0 MiB with 4 batches,\nat 401.5 MiB with 64, medians of 5" in written


def test_passes_are_told_by_task() -> None:
    points = [Point(x, ss[-1], 1.0, 10.0) for ss in by_axis().values() for x in (PASS, OURS)]
    written = page([MEASURED], PASSES, (1.0, 1.0), points, 3)
    assert "| network | per-sample gradients | KFAC | EKFAC |" in written
    assert "| a network | 7.0 | 2.0 | 3.5 |" in written


def test_a_task_in_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the median of runs, the first left out: a task of two passes' time takes two passes."""
    clock = iter([0, 9, 0, 9, *[0, 1, 0, 2]])  # start and end of pass, of task, and so on
    monkeypatch.setattr(passes, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(passes, "one_pass", lambda case: None)
    monkeypatch.setattr(passes, "TASKS", {"KFAC": lambda problem: None})
    assert passes.in_passes(cast(Case, SimpleNamespace(problem=None)), 1) == {"KFAC": 2.0}


def test_only_who_agrees_is_the_fastest() -> None:
    assert MEASURED.fastest == 0.2
    assert Measured("KFAC", "", timing(OURS, 1.0), (), {}, 1.0, 0.0).fastest is None


def test_memory_beyond_the_operators_is_in_passes() -> None:
    points = []
    for size in {s for sizes in by_axis().values() for s in sizes}:
        points += [Point(PASS, size, 1.0, 10.0), Point(OURS, size, 1.0, returned(size) + 25.0)]
    written = page([MEASURED], PASSES, (1.0, 1.0), points, 3)
    rows = [line for line in written.splitlines() if line.startswith("| width 512 ")]
    assert rows == [
        f"| width 512 | 10 MiB | {returned(Size(width=512)) + 25:.0f} MiB | 13 MiB | 2.5 |"
    ]


def test_operators_of_a_size() -> None:
    """Q_B, Q_A and Lambda of two layers [2, 3], and of the head [10, 3]."""
    numbers = 2 * (4 + 9 + 6) + (100 + 9 + 30)
    assert returned(Size(width=2, depth=2)) == 4 * numbers / 2**20


def test_a_case_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """With eigenproblems no larger than the number of rows: of the last layer 4, not 9."""
    solved, eigh = list[int](), torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda x: (solved.append(len(x)), eigh(x))[1])
    model = nn.Sequential(nn.Conv2d(1, 2, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    data = TensorDataset(torch.randn(4, 1, 3, 3), torch.randint(3, (4,)))
    case = Case("small", model, DataLoader(data, batch_size=4))
    assert sightings(case) == [Seen(4, 4, 2, 4), Seen(4, 1, 3, 9)]
    floor(case, corrected=False)()
    assert solved == []
    floor(case, corrected=True)()
    assert sorted(solved) == [2, 3, 4, 4]
