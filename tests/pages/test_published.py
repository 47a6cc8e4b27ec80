"""Every published mistake has its mutants or a reason why not, and the page says so."""

from pathlib import Path

from ekfac_ref.conformance.mutants import MUTANTS
from studies.power.published import PUBLISHED
from studies.power.published_page import page

PAGE = Path(__file__).parents[2] / "docs" / "published.md"


def test_the_page_is_what_the_data_say() -> None:
    assert PAGE.read_text() == page()


def test_there_is_an_entry_for_every_row_that_was_collected() -> None:
    assert len(PUBLISHED) == 97
    assert sum(not published.source for published in PUBLISHED) == 4


def test_no_entry_comes_twice() -> None:
    assert len({published.mistake for published in PUBLISHED}) == len(PUBLISHED)
    sources = [published.source for published in PUBLISHED if published.source]
    assert len(set(sources)) == len(sources)


def test_every_mutant_that_is_named_is_in_the_catalogue() -> None:
    named = {name for published in PUBLISHED for name in published.mutants}
    assert named - set(MUTANTS) == set()


def test_every_entry_has_mutants_or_says_why_there_are_none() -> None:
    for published in PUBLISHED:
        assert bool(published.mutants) != bool(published.why_none), published.mistake
