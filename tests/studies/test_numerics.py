"""The count under every numerics; ``make numerics`` takes the whole suite and many problems."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from studies.numerics import alarms, correct, shuffled
from studies.numerics.alarms import Asked, ask_here
from studies.numerics.numerics import NUMERICS
from studies.numerics.page import Row, page
from studies.numerics.suite import Suite, read


@pytest.mark.parametrize(
    ("printed", "code", "passed", "failed", "failures"),
    [
        ("....\n12 passed in 3.1s\n", 0, 12, 0, []),
        (
            "FAILED tests/a.py::b[c d] - E\n1 failed, 9 passed in 3s",
            1,
            9,
            1,
            ["tests/a.py::b[c d]"],
        ),
        ("ERROR tests/a.py - E\n2 errors in 3s", 2, 0, 2, ["tests/a.py"]),
        ("", 4, 0, 1, ["pytest ended with code 4"]),
    ],
)
def test_what_pytest_prints(
    printed: str, code: int, passed: int, failed: int, failures: list[str]
) -> None:
    assert read(printed, code, 1.0) == Suite(passed, failed, failures, 1.0)


def order(seed: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    monkeypatch.setenv("SHUFFLED", seed)
    items: list[Any] = [SimpleNamespace(path=Path(f), n=n) for f in "abcdef" for n in range(5)]
    shuffled.pytest_collection_modifyitems(items)
    return [(str(item.path), item.n) for item in items]


def test_every_seed_has_an_order_in_which_files_stay_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, again, other = (order(seed, monkeypatch) for seed in "001")
    assert first == again != other
    assert sorted(first) == sorted(other) != first
    for found in (first, other):
        files = [file for file, _ in found]
        assert [*dict.fromkeys(files)] == files[::5] != sorted(files[::5])
        assert [n for _, n in found[:5]] != [0, 1, 2, 3, 4]


def test_a_numerics_has_its_own_variables_alone() -> None:
    outer = {"PATH": "x", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "7"}
    found = {numerics.name: numerics.in_environment(outer) for numerics in NUMERICS}
    assert found["default"] == {"PATH": "x"}
    assert found["MKL compatible"] == {"PATH": "x", "MKL_CBWR": "COMPATIBLE"}
    assert found["one thread"]["OMP_NUM_THREADS"] == "1"
    assert len(found) >= 4


class Wrong(Exception):
    """An answer that is none."""


def test_a_mistake_and_a_refusal_are_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(problem: ek.Problem) -> None:
        raise Wrong("no")

    mistaken = ct.MUTANTS["half-lambda"].subject
    monkeypatch.setattr(alarms, "correct_subjects", lambda: (mistaken, ct.Subject("no", refuses)))
    found = ask_here(seed=3, problems=2)
    assert sum(found.pairs.values()) == 4
    assert {key.partition(",")[0] for key in found.pairs} == {mistaken.name, "no"}
    assert any("half-lambda" in line and "trace" in line for line in found.broken)
    assert sum(line.startswith("no, ") and "Wrong: no" in line for line in found.broken) == 2


def test_the_page_counts() -> None:
    one = Asked("d", {"a, float64": 3, "a, bfloat16": 2, "b, float32": 5}, ["a, x: trace: 1"], [])
    two = Asked("d", {"a, float64": 1000}, [], ["b, y: psd: 2"])
    rows = [
        Row(NUMERICS[0], Suite(2000, 1, ["tests/x.py::y"], 60.0), [one, two]),
        Row(NUMERICS[-1], None, [one]),
    ]
    found = page(rows, 38.2)
    assert "It took 38 minutes." in found
    for line in (
        "| default | as it is | 2,000 | 1 | 1,010 | 1 | 1 |",
        "| **all** | | 2,000 | 1 | **1,020** | **2** | 1 |",
        "| a | 1,006 | 0 | 4 | 1,010 | 2 | 0 |",
        "| b | 0 | 10 | 0 | 10 | 0 | 1 |",
        "- default: tests/x.py::y",
        "- default: a, x: trace: 1",
        "- default: b, y: psd: 2",
    ):
        assert line in found.splitlines()


def test_clusters_of_equal_eigenvalues_are_turned_and_nothing_else() -> None:
    factor = torch.diag(torch.tensor([2.0, 1.0, 2.0])).double()
    Q = correct.rotated_clusters(factor)
    torch.testing.assert_close(Q @ torch.diag(torch.tensor([1.0, 2, 2]).double()) @ Q.T, factor)
    assert Q[:, 0].abs().tolist() == [0, 1, 0]
    assert float(Q[0, 1:].abs().min()) > 0.01
