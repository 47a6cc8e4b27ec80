"""What is committed of mistakes on one's own model: all are noticed, and the page says so."""

from pathlib import Path

import pytest

from studies.own_model.measure import Noticed
from studies.own_model.result import PINNED, from_toml, told

PAGE = Path(__file__).parents[2] / "docs" / "own_model.md"
FOUND = from_toml(PINNED.read_text())


@pytest.mark.parametrize("name", ["resnet", "transformer"])
def test_every_mistake_of_more_than_a_percent_is_noticed(name: str) -> None:
    wrong = [one for one in FOUND[name].values() if one.change > 0.01]
    assert len(wrong) > 40
    assert not [one.mutant for one in wrong if not one.shown]


@pytest.mark.parametrize("name", ["resnet", "transformer"])
def test_the_page_has_the_figures(name: str) -> None:
    assert told(name, FOUND[name]) in PAGE.read_text()


def test_a_row_counts_what_is_off_by_more_than_a_percent() -> None:
    small = Noticed("small", 0.005, ("trace",), ("trace",), (0, 0))
    large = Noticed("large", 0.5, ("trace",), (), (3, 1))
    assert told("net", {"small": small, "large": large}) == "| net | 1 | 1 | 0 | 1 of 3 |"
