"""Of stored reports: which verdict stands where, and that every finding can be read and run."""

import ast
from pathlib import Path
from typing import Any

import pytest

from peers.__main__ import is_shown
from peers.board import Verdict, by_feature, by_law, deviations
from peers.catalogue import EVERY, EXPLAINED, FINDINGS, Finding, counted
from peers.libraries import LIBRARIES, Library
from peers.page import page
from peers.picture import one_page, svg

CURVLINOPS = next(one for one in LIBRARIES if one.name == "curvlinops")


def cause(feature: str, *laws: str) -> dict[str, Any]:
    where = {"where": {"present": [feature], "absent": []}, "also": []}
    return {"sentence": "", "where": where, "laws": list(laws), "problems": 1}


def score(name: str, standing: str, broken: int = 0) -> dict[str, Any]:
    worst = {"ratio": 1e9, "size": 0.01} if broken else None
    counts = {"drawn": 5, "held": 0, "refused": 0, "broken": broken, "worst": worst}
    return {"name": name, "standing": standing, **counts}


REPORT: dict[str, Any] = {
    "seed": 0,
    "profile": "quick",
    "digest": "abc",
    "problems": 200,
    "asked": 200,
    "answered": 150,
    "scoreboard": [
        score("padding mode", "wrong", 4),
        score("subclass of a layer", "wrong", 2),
        score("dilation", "wrong", 2),
        score("stride", "wrong", 3),
        score("Linear", "exact"),
        score("padding", "not answered"),
    ],
    "causes": [
        cause("padding mode", "trace"),
        cause("subclass of a layer", "moments"),
        cause("dilation", "trace"),
        cause("stride", "nan"),
    ],
    "refusals": [],
    "verdicts": [
        {"law": "trace", "status": "FAIL", "asked": 9, "broken": "by a lot"},
        {"law": "moments", "status": "FAIL", "asked": 9, "broken": "by a lot"},
        {"law": "psd", "status": "pass", "asked": 9, "broken": ""},
    ],
    "troubles": [],
    "diagnosis": "",
}
REPORTS = {"factors": REPORT}


def test_a_deviation_is_a_finding_explained_or_neither() -> None:
    cells = by_feature(CURVLINOPS, REPORTS)
    assert cells["padding mode"].verdict is Verdict.WRONG
    assert cells["padding mode"].why == "curvlinops_padding_mode"
    assert cells["subclass of a layer"].verdict is Verdict.EXPLAINED
    assert cells["dilation"].verdict is Verdict.UNEXPLAINED
    assert cells["stride"].verdict is Verdict.EXACT  # a law of manners is no wrong number
    assert cells["padding"].is_unanswered_claim
    assert len(deviations(CURVLINOPS, REPORTS)) == 3


def test_the_gravest_of_several_subjects_is_shown() -> None:
    right = {**REPORT, "scoreboard": [score("padding mode", "exact")], "causes": []}
    cells = by_feature(CURVLINOPS, {"one": right, "other": REPORT})
    assert cells["padding mode"].verdict is Verdict.WRONG


def test_laws_are_judged_by_what_broke_them() -> None:
    cells = by_law(CURVLINOPS, REPORTS)
    assert cells["trace"].verdict is Verdict.WRONG
    assert cells["moments"].verdict is Verdict.EXPLAINED
    assert cells["psd"].verdict is Verdict.EXACT


def test_a_law_of_manners_is_explained_by_itself() -> None:
    verdicts = [{"law": "nan", "status": "FAIL", "asked": 9, "broken": "answered in silence"}]
    cell = by_law(CURVLINOPS, {"factors": {**REPORT, "verdicts": verdicts}})["nan"]
    assert (cell.verdict, cell.why) == (Verdict.EXPLAINED, "asked by this kit alone")


@pytest.mark.parametrize("one", [one for one in FINDINGS if one.may_be_meant], ids=lambda o: o.id)
def test_what_may_be_meant_is_not_called_wrong(one: Finding) -> None:
    library = next(lib for lib in LIBRARIES if lib.name == one.library)
    feature = one.features[0] if one.features and one.features != EVERY else "Linear"
    found = cause(feature, *(one.laws or ("trace",)))
    report = {**REPORT, "scoreboard": [score(feature, "wrong", 4)], "causes": [found]}
    cell = by_feature(library, {"it": report})[feature]
    assert (cell.verdict, cell.why) == (Verdict.EXPLAINED, one.id)


def test_findings_and_questions_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [one for one in FINDINGS if not one.may_be_meant][:3]
    questions = [one for one in FINDINGS if one.may_be_meant][:1]
    monkeypatch.setattr("peers.catalogue.FINDINGS", [*some, *questions])
    assert counted() == "3 findings and 1 questions"


def test_what_is_common_to_features_is_each_of_them() -> None:
    """A cause that is named "a convolution" is told by what is known of one kind of them."""
    report = {
        **REPORT,
        "scoreboard": [score("padding mode", "exact"), score("Conv2d", "wrong", 4)],
        "causes": [cause("a convolution", "trace")],
    }
    assert deviations(CURVLINOPS, {"it": report}) == [
        ("Conv2d", by_feature(CURVLINOPS, {"it": report})["Conv2d"])
    ]
    assert by_feature(CURVLINOPS, {"it": report})["Conv2d"].verdict is Verdict.UNEXPLAINED
    assert by_law(CURVLINOPS, {"it": report})["trace"].verdict is Verdict.UNEXPLAINED
    by_manners = {**report, "causes": [cause("a convolution", "nan")]}
    assert by_feature(CURVLINOPS, {"it": by_manners})["Conv2d"].verdict is Verdict.EXACT


def test_the_pages_hold_every_finding_and_the_counts() -> None:
    told = {one.id: "expected 2, got 1" for one in FINDINGS}
    head = {"date": "today", "torch": "2", "left_out": {"kfac-jax": "it did not install"}}
    reports = {"curvlinops": REPORTS}
    text = page(reports, told, head)
    assert all(f"**{one.id}**" in text for one in FINDINGS)
    assert "left out: it did not install" in text
    assert "1 are findings, 1 are explained, 1 are not" in text
    assert svg(reports).startswith("<svg")
    assert "padding mode" in svg(reports)
    assert 'name="viewport"' in one_page(reports, told, "today")


def test_a_script_shows_its_finding_by_two_numbers_that_differ() -> None:
    assert is_shown("expected 2, got 1")
    assert is_shown("expected 2, got nan")
    assert not is_shown("expected 2, got 2.0001")
    assert not is_shown("ImportError: no module")


@pytest.mark.parametrize("one", FINDINGS, ids=lambda one: one.id)
def test_a_finding_is_short_and_alone(one: Finding) -> None:
    text = one.script.read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 32
    assert one.sentence
    library = next(lib for lib in LIBRARIES if lib.name == one.library)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else names(node))
    }
    beside = {one.partition("==")[0] for one in library.beside}
    assert imported <= {"torch", "tempfile", library.module, *beside}


def names(node: ast.Import) -> list[str]:
    return [alias.name for alias in node.names]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda one: one.name)
def test_a_library_has_its_adapter_or_a_reason(library: Library) -> None:
    adapter = Path("peers/adapters") / f"{library.module}.py"
    assert library.left_out or adapter.exists()


def test_every_script_belongs_to_a_finding_and_explanations_to_libraries() -> None:
    assert {p.stem for p in Path("peers/findings").glob("*.py")} == {f.id for f in FINDINGS}
    assert {name for name, _ in EXPLAINED} <= {one.name for one in LIBRARIES}
