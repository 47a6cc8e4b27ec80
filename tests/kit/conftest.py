"""What tests of several files set up."""

import pytest

from ekfac_ref.conformance.problems.draw import mixtures


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process draw mixtures alone, in which a few problems have many features."""
    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.draw_problems", mixtures)
