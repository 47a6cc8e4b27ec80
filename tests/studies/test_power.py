"""The count of who notices what, on few problems; ``make power`` takes many."""

from dataclasses import replace
from math import inf
from pathlib import Path

from ekfac_ref import conformance as ct
from studies.power.measure import notice, resolutions, size
from studies.power.page import page, totals, with_totals
from studies.power.result import (
    PINNED,
    AllSets,
    OneSet,
    Power,
    Size,
    from_toml,
    over_all_sets,
    pinned,
    to_toml,
)
from tests.support.witnesses import witnesses


def test_a_mistake_is_noticed_by_the_laws_that_it_breaks() -> None:
    found = notice("half-lambda", seed=0, problems=12, shrink_seconds=60.0, laws=ct.LAWS)
    assert {"trace", "eigenvalues"} <= set(found.first)
    assert not {"symmetry", "psd", "orthonormal basis", "nan"} & set(found.first)
    assert 1 <= min(found.first.values()) <= max(found.first.values()) <= 12
    assert (found.mutant, found.seed) == ("half-lambda", 0)
    assert found.smallest == Size(layers=1, samples=1, numbers=2)


def test_a_mutant_that_nothing_notices_has_no_smallest_problem() -> None:
    found = notice("other-signs", seed=0, problems=2, shrink_seconds=2.0, laws=ct.LAWS)
    assert (found.first, found.smallest) == ({}, None)


def test_the_size_of_a_problem_is_that_of_its_largest_layer() -> None:
    assert size(witnesses()["mask 1"]) == Size(layers=2, samples=3, numbers=6)


def test_resolutions_are_measured_law_by_law() -> None:
    found = resolutions("ekfac_ref.examples:reference", "float64", number=1, problems=2)
    assert {"trace", "kfac", "exact block", "solve 1"} <= set(found.laws)
    assert not {"nan", "no memory", "own answers"} & set(found.laws)
    assert 1e-16 < found.laws["trace"] <= found.scale * 10 <= 1e-9


def test_what_was_found_on_all_sets_is_the_most_problems_and_the_smallest_one() -> None:
    sets = [
        OneSet("twice", 0, {"trace": 3, "psd": 1}, Size(2, 1, 6)),
        OneSet("twice", 1, {"trace": 2}, Size(1, 4, 9)),
        OneSet("twice", 2, {}, None),
    ]
    expected = AllSets({"trace": [0, 1], "psd": [0]}, needed=2, smallest=Size(1, 4, 9))
    assert over_all_sets(sets) == expected
    assert over_all_sets(sets[2:]) == AllSets({}, None, None)


def made_up() -> Power:
    mutants = {
        m.name: AllSets({} if m.proof else {"trace": [0], "psd": [1]}, None, None)
        for m in ct.MUTANTS.values()
    }
    mutants["half-lambda"] = AllSets({}, None, None)
    mutants["twice"] = AllSets({"trace": [0, 1]}, 3, Size(2, 1, 6))
    mutants["unbiased"] = replace(mutants["unbiased"], smallest=Size(1, 2, 1))
    return Power(
        date="2000-01-01",
        seeds=[0, 1],
        problems=4,
        resolution={"float64": {"trace": 1e-14, "kernel": inf}, "float32": {"trace": 1e-5}},
        scale={"float64": 1e-14, "float32": 3e-6},
        mutants=mutants,
    )


def test_the_file_keeps_every_number() -> None:
    assert from_toml(to_toml(made_up())) == made_up()
    assert to_toml(pinned()) == PINNED.read_text()


def test_every_mutant_was_measured_and_every_law_is_one_of_today() -> None:
    assert set(pinned().mutants) == set(ct.MUTANTS)
    noticed = {law for one in pinned().mutants.values() for law in one.laws}
    measured = {law for found in pinned().resolution.values() for law in found}
    assert noticed | measured <= set(ct.LAWS)


def test_the_page_has_a_row_for_every_mutant_and_counts_those_that_nothing_noticed() -> None:
    power = made_up()
    text = page(power)
    wrong = sum(not mutant.proof for mutant in ct.MUTANTS.values())
    assert f"**{wrong - 1} of {wrong}**" in text
    assert "| trace | 1e-14 | 1e-05 |" in text
    assert "| kernel | none | not asked |" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert set(ct.MUTANTS) <= set(rows)
    column = 2 + list(ct.LAWS).index("trace")
    assert rows["twice"].split("|")[column].strip() == "2"
    assert rows["half-lambda"].split("|")[column].strip() == ""
    assert "in the median,\n  1.5 sample(s) and 3.5 numbers in its largest layer" in text
    assert "*Smallest found:* 2 layers, up to 6 numbers in one; one sample." in text


def test_the_totals_count_what_is_noticed_on_every_set() -> None:
    rows = dict(line.strip("| ").split(" | ") for line in table(totals(made_up())))
    wrong = sum(not mutant.proof for mutant in ct.MUTANTS.values())
    assert rows["the trace"] == "1"
    assert rows["symmetric and positive semidefinite"] == "0"
    assert rows["every law"] == str(wrong - 1)


def table(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| ")]


def test_the_readme_and_the_page_say_what_was_measured() -> None:
    readme = Path("README.md").read_text()
    assert with_totals(readme, pinned()) == readme
    assert Path("docs/mutants.md").read_text() == page(pinned())
