"""Every published mistake has its mutants or a reason why not, and every story its row."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from ekfac_ref.conformance import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "published.md"
SOURCE = re.compile(r"[A-Za-z][\w-]*(?:#\d+|@[0-9a-f]{7,8})\b")  # repository#issue, or @commit
NAMED = re.compile(r"`([^`]+)`( \(no difference\))?")


@dataclass(frozen=True)
class Row:
    """A row of the page: who made the mistake, what it is, and the mutants that make it too."""

    source: str
    mistake: str
    last: str

    @property
    def mutants(self) -> list[str]:
        return [match[1] for match in NAMED.finditer(self.last)]


def rows() -> list[Row]:
    table = PAGE.read_text().split("\n|---|---|---|\n")[-1].splitlines()
    return [Row(*row.removeprefix("| ").removesuffix(" |").split(" | ")) for row in table]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.mistake)
def test_a_row_has_sources_and_mutants_or_says_why_there_are_none(row: Row) -> None:
    assert row.source == "—" or all(map(SOURCE.fullmatch, row.source.split(", ")))
    if row.mutants:
        assert all(map(NAMED.fullmatch, row.last.split(", ")))
    else:
        assert re.fullmatch(r"None\. [A-Z].+\.", row.last)
        assert row.source != "—"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.mistake)
def test_its_mutants_exist_and_make_a_difference_unless_it_says_no(row: Row) -> None:
    for name, no_difference in NAMED.findall(row.last):
        assert bool(MUTANTS[name].proof) == bool(no_difference), name


def test_no_row_comes_twice() -> None:
    mistakes = [row.mistake for row in rows()]
    sources = [row.source for row in rows() if row.source != "—"]
    assert len(set(mistakes)) == len(mistakes)
    assert len(set(sources)) == len(sources)


def test_the_readme_counts_the_rows() -> None:
    counts = re.findall(r"(\d+) published\s+mistakes", (ROOT / "README.md").read_text())
    assert {int(count) for count in counts} <= {len(rows())}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_a_mutant_stands_in_a_row_of_every_source_of_its_story(mutant: Mutant) -> None:
    assert not re.search("[#@]", SOURCE.sub("", mutant.story))
    for source in SOURCE.findall(mutant.story):
        of_source = [row for row in rows() if source in row.source.split(", ")]
        assert any(mutant.name in row.mutants for row in of_source), source
