"""What these tests leave out, since it takes longest: the search for the mistake's name, and for
more than two problems on which a law would notice an error. They draw mixtures, in which a few
problems have many features.
"""

from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def _undiagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(sentence="It looks like one.", named="one")
    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.diagnose", lambda *a, **k: found)
    monkeypatch.setattr("ekfac_ref.conformance.run.run.SHARPENED", 2)


@pytest.fixture(autouse=True)
def _mixed(mixed: None) -> None:
    pass
