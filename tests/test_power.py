"""The count of who notices what, on few problems; ``make power`` takes many."""

import pytest

from ekfac_ref.conformance.lawbook import LAWS
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.power import Power, false_alarms, noticed
from ekfac_ref.conformance.power_page import page
from ekfac_ref.examples import hooks

from .snapshot import as_users_run_it


@pytest.fixture(autouse=True)
def _without_type_checks():
    """They draw from the random state that "leaves alone" watches."""
    with as_users_run_it():
        yield


def test_a_mistake_is_noticed_by_the_laws_that_it_breaks() -> None:
    found = noticed("half-lambda", seed=0, problems=12)
    assert {"trace", "eigenvalues"} <= set(found.first)
    assert not {"symmetry", "psd", "orthonormal basis", "nan"} & set(found.first)
    assert 1 <= min(found.first.values()) <= max(found.first.values()) <= 12


def test_a_correct_subject_raises_no_alarm() -> None:
    assert false_alarms(hooks, seed=3, problems=4) == []


def test_the_page_has_a_row_for_every_mutant_and_counts_those_that_nothing_noticed() -> None:
    killed = {m.name: {"trace": 2} for m in CATALOGUE if not m.proof}
    killed |= {m.name: {} for m in CATALOGUE if m.proof}
    killed["half-lambda"] = {}
    text = page(Power("2000-01-01", [0, 1], 4, killed, {"twice": 3}))
    wrong = sum(not mutant.proof for mutant in CATALOGUE)
    assert f"**{wrong - 1} of {wrong}**" in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert {mutant.name for mutant in CATALOGUE} <= set(rows)
    column = 2 + [law.name for law in LAWS].index("trace")
    assert rows["twice"].split("|")[column].strip() == "2"
    assert rows["half-lambda"].split("|")[column].strip() == ""
