"""What these tests leave out: the search for the mistake's name, which takes longest."""

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def _undiagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(sentence="It looks like one.")
    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.diagnose", lambda *a, **k: found)
