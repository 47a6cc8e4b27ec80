"""What libraries answered is kept as it comes, whatever ends the run."""

import json
from itertools import count, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ekfac_ref.conformance.laws.catalogue import LAWS
from peers import environments, results
from peers.catalogue import FINDINGS
from peers.libraries import LIBRARIES, Library

CURVLINOPS, NNGEOMETRY = LIBRARIES[:2]


def none() -> results.Results:
    return results.Results(reports={}, told={}, left_out={}, minutes=9)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.json"
    monkeypatch.setattr(results, "KEPT", path)
    monkeypatch.setattr(results, "installed", lambda library: "")
    monkeypatch.setattr(results, "script", lambda library, path: "expected 2, got 1")
    monkeypatch.setattr(results, "checked", _answered)
    clock = count(0, 600)
    monkeypatch.setattr(results, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    return path


def _answered(library: Library, subject: str, profile: str, seed: int) -> dict[str, Any]:
    return {"asked": 200}


def test_one_that_fails_costs_no_other_its_report(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(library: Library, subject: str, profile: str, seed: int) -> dict[str, Any]:
        if subject == "factors":
            raise RuntimeError("the run ended before its end")
        return {"asked": 200}

    monkeypatch.setattr(results, "checked", checked)
    before = none()
    before["reports"]["curvlinops"] = {"factors": {"asked": 7, "date": "then"}, "gone": {}}
    with pytest.raises(RuntimeError, match="before its end"):
        results.renewed(before, [CURVLINOPS], "quick", 0)
    found = json.loads(kept.read_text())["reports"]["curvlinops"]
    assert found["factors"] == {"asked": 7, "date": "then"}
    assert found["products"]["asked"] == 200
    assert set(found) == {"factors", "products"}


def test_others_stay_as_they_were_and_minutes_are_of_whole_runs(kept: Path) -> None:
    before = none()
    before["reports"]["nngeometry"] = {"exact": {"asked": 7}}
    found = results.renewed(before, [CURVLINOPS], "quick", 0)
    assert found["reports"]["nngeometry"] == {"exact": {"asked": 7}}
    assert set(found["reports"]["curvlinops"]) == set(CURVLINOPS.subjects)
    own = {one.id for one in FINDINGS if one.library == "curvlinops"}
    assert own
    assert found["told"] == dict.fromkeys(own, "expected 2, got 1")
    assert found["minutes"] == 0
    assert results.read() == found
    assert results.renewed(found, [CURVLINOPS, NNGEOMETRY], "quick", 0)["minutes"] == 10


def test_what_cannot_be_installed_is_left_out_until_it_can(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "installed", lambda library: "no such version")
    found = results.renewed(none(), [CURVLINOPS], "quick", 0)
    assert found["left_out"] == {"curvlinops": "no such version"}
    assert "curvlinops" not in found["reports"]
    monkeypatch.setattr(results, "installed", lambda library: "")
    again = results.renewed(found, [CURVLINOPS, NNGEOMETRY], "quick", 0)
    assert again["left_out"] == {}
    assert set(again["reports"]) == {"curvlinops", "nngeometry"}


def test_who_answers_as_another_does_is_asked_its_own_laws_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: dict[str, list[str]] = {}

    def run(command: list[str], **options: object) -> None:
        commands[command[4]] = command
        report = {"complete": True, "scoreboard": [], "causes": [], "refusals": [], "verdicts": []}
        names = ("seed", "profile", "digest", "problems", "asked", "answered", "diagnosis")
        report |= {"troubles": []} | dict.fromkeys(names, "")
        Path(command[command.index("--json") + 1]).write_text(json.dumps(report))

    monkeypatch.setattr(environments, "HOME", tmp_path)
    monkeypatch.setattr(environments, "subprocess", SimpleNamespace(run=run))
    for library in LIBRARIES:
        for subject in library.subjects:
            environments.checked(library, subject, "quick", 0)
    of_laws = {
        path.rpartition(".")[2]: [law for flag, law in pairwise(command) if flag == "--law"]
        for path, command in commands.items()
        if "--law" in command
    }
    assert of_laws == {
        "kronfluence:kfac": ["kfac", "factors", "solve 1e-06", "solve 1"],
        "kfac_jax:factored": ["solve 1e-06", "solve 1"],
        "kfac_jax:exact": ["exact block", "diagonal", "solve 1e-06", "solve 1"],
    }
    assert {law for several in of_laws.values() for law in several} <= {*LAWS}


def test_features_are_kept_of_what_no_feature_tells_apart() -> None:
    report = dict.fromkeys(("seed", "digest", "asked", "answered", "scoreboard"), "")
    sure, unsure = ({"where": {}, "sure": told} for told in (True, False))
    causes = [
        {"sentence": "", "where": where, "laws": [], "problems": [3, 4], "features": [["a"], ["b"]]}
        for where in (sure, unsure, None)
    ]
    found = environments.kept({**report, "causes": causes, "verdicts": []})["causes"]
    assert [one["problems"] for one in found] == [2, 2, 2]
    assert [one.get("features") for one in found] == [None, [["a"], ["b"]], [["a"], ["b"]]]
