"""The figures of the page on shards are those of the last run of its study."""

from dataclasses import replace
from pathlib import Path

import pytest

from studies.shards.result import PINNED, from_toml, of_seconds, to_toml, told

PAGE = (Path(__file__).parents[2] / "docs" / "shards.md").read_text()
FOUND = from_toml(PINNED.read_text())


@pytest.mark.parametrize("row", [*told(FOUND), *of_seconds(FOUND)])
def test_the_page_has_the_figures(row: str) -> None:
    assert row in PAGE


def test_all_of_a_hundred_problems_are_equal() -> None:
    assert len(FOUND.problems) == 100
    assert all(p.counts and p.same and all(p.laws.values()) for p in FOUND.problems)
    assert f"{FOUND.date}, {FOUND.versions}" in PAGE


def test_what_is_off_is_not_counted() -> None:
    first = FOUND.problems[0]
    off = replace(first, A=11.0, counts=False, laws={"comparison": False})
    rows = told(replace(FOUND, problems=[first, off]))
    assert "| A and B equal to rounding | 1 of 2 |" in rows
    assert "| counts N and M equal | 1 of 2 |" in rows
    assert "| law: comparison | 1 of 2 |" in rows


def test_a_result_is_read_as_it_was_written() -> None:
    assert to_toml(FOUND) == PINNED.read_text()
