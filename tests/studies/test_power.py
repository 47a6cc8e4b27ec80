"""The count of who notices what, on few problems; ``make power`` takes many."""

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.subjects.subject import Subject
from studies.power import correct
from studies.power.front import front_window, with_front_window
from studies.power.measure import (
    Alarms,
    Power,
    Size,
    false_alarms,
    noticed,
    pinned,
    resolutions,
    size,
)
from studies.power.page import page
from tests.support.witnesses import witnesses


def test_a_mistake_is_noticed_by_the_laws_that_it_breaks() -> None:
    found = noticed("half-lambda", seed=0, problems=12, shrink_seconds=2.0)
    assert {"trace", "eigenvalues"} <= set(found.first)
    assert not {"symmetry", "psd", "orthonormal basis", "nan"} & set(found.first)
    assert 1 <= min(found.first.values()) <= max(found.first.values()) <= 12
    assert (found.mutant, found.seed) == ("half-lambda", 0)
    assert found.smallest == Size(layers=1, samples=1, numbers=2)


def test_a_mutant_that_nothing_notices_has_no_smallest_problem() -> None:
    found = noticed("other-signs", seed=0, problems=2, shrink_seconds=2.0)
    assert (found.first, found.smallest) == ({}, None)


def test_the_size_of_a_problem_is_that_of_its_largest_layer() -> None:
    assert size(witnesses()["mask 1"]) == Size(layers=2, samples=3, numbers=6)


@pytest.mark.parametrize(
    "path",
    ["ekfac_ref.examples:hooks"]
    + [f"studies.power.correct:in_{how}" for how in ("other_signs", "rotated_clusters")],
)
def test_a_correct_subject_raises_no_alarm(path: str) -> None:
    assert false_alarms(path, seed=3, problems=4) == []


def test_a_wrong_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correct, "definition", correct_is("half-lambda"))
    alarms = false_alarms("studies.power.correct:definition", seed=3, problems=2)
    assert any("definition, trace:" in line for line in alarms)


def correct_is(mutant: str) -> Subject:
    return MUTANTS[mutant].subject


def test_clusters_of_equal_eigenvalues_are_turned_and_nothing_else() -> None:
    factor = torch.diag(torch.tensor([2.0, 1.0, 2.0])).double()
    Q = correct.rotated_clusters(factor)
    torch.testing.assert_close(Q @ torch.diag(torch.tensor([1.0, 2, 2]).double()) @ Q.T, factor)
    assert Q[:, 0].abs().tolist() == [0, 1, 0]
    assert float(Q[0, 1:].abs().min()) > 0.01


def test_resolutions_are_measured_law_by_law() -> None:
    seen = resolutions("ekfac_ref.examples:reference", "float64", number=1, problems=2)
    assert {"trace", "kfac", "exact block", "solve 1"} <= set(seen.laws)
    assert not {"nan", "no memory", "own answers"} & set(seen.laws)
    assert 1e-16 < seen.laws["trace"] <= seen.scale * 10 <= 1e-9


def made_up() -> Power:
    killed = {m.name: {"trace": [0], "psd": [1]} for m in MUTANTS.values() if not m.proof}
    killed |= {m.name: {} for m in MUTANTS.values() if m.proof}
    killed["half-lambda"] = {}
    killed["twice"] = {"trace": [0, 1]}
    smallest = {"twice": Size(2, 1, 6), "unbiased": Size(1, 2, 1)}
    alarms = Alarms({"some:one": 40, "some:other": 20}, ["some:one, trace: too large"])
    resolution = {"float64": {"trace": 1e-14, "kernel": inf}, "float32": {"trace": 1e-5}}
    scale = {"float64": 1e-14, "float32": 3e-6}
    needed = {"twice": 3}
    return Power("2000-01-01", [0, 1], 4, killed, needed, smallest, alarms, resolution, scale)


def test_the_page_has_a_row_for_every_mutant_and_counts_those_that_nothing_noticed() -> None:
    power = made_up()
    text = page(power)
    wrong = sum(not mutant.proof for mutant in MUTANTS.values())
    assert f"**{wrong - 1} of {wrong}**" in text
    assert "**1 false alarms** (laws broken) in 60 pairs" in text
    assert "No bound follows" in text
    silent = page(replace(power, alarms=replace(power.alarms, broken=[])))
    assert "the rate is below 3 / n, 5.0e-02." in silent
    assert "| trace | 1e-14 | 1e-05 |" in text
    assert "| kernel | none | not asked |" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert set(MUTANTS) <= set(rows)
    column = 2 + list(LAWS).index("trace")
    assert rows["twice"].split("|")[column].strip() == "2"
    assert rows["half-lambda"].split("|")[column].strip() == ""
    assert "in the median, 1.5 sample(s) and\n  3.5 numbers in its largest layer" in text
    assert "*Smallest found:* 2 layers, up to 6 numbers in one; one sample." in text


def test_the_front_window_counts_what_is_noticed_on_every_set() -> None:
    rows = dict(line.strip("| ").split(" | ") for line in table(front_window(made_up())))
    wrong = sum(not mutant.proof for mutant in MUTANTS.values())
    assert rows["the trace"] == "1"
    assert rows["symmetric and positive semidefinite"] == "0"
    assert rows["every law"] == str(wrong - 1)


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_readme_and_the_page_say_what_was_measured() -> None:
    readme = Path("README.md").read_text()
    assert with_front_window(readme, pinned()) == readme
    assert Path("docs/mutants.md").read_text() == page(pinned())
