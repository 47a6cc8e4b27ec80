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
from peers.results import read

CURVLINOPS = next(one for one in LIBRARIES if one.name == "curvlinops")


def cause(*laws: str, where: tuple[str, ...] = (), sure: bool = True) -> dict[str, Any]:
    """Of problems with these features, or on every problem."""
    found = {"where": {"present": [*where], "absent": []}, "also": [], "sure": sure}
    return {"sentence": "Wrong.", "where": found, "laws": list(laws), "problems": 1}


def apart(*features: list[str]) -> dict[str, Any]:
    """What no feature tells apart, by the features of each of its problems."""
    return {**cause("trace"), "where": None, "features": [*features]}


def score(name: str, standing: str, broken: int = 0) -> dict[str, Any]:
    counts = {"drawn": 5, "held": 0, "refused": 0, "broken": broken}
    return {"name": name, "standing": standing, **counts}


REPORT: dict[str, Any] = {
    "seed": 0,
    "digest": "abc",
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
        cause("trace", where=("padding mode",)),
        cause("moments", where=("subclass of a layer",)),
        cause("trace", where=("dilation",)),
        cause("nan", where=("stride",)),
    ],
    "verdicts": [
        {"law": "trace", "status": "FAIL", "asked": 9, "broken": "by a lot"},
        {"law": "moments", "status": "FAIL", "asked": 9, "broken": "by a lot"},
        {"law": "psd", "status": "pass", "asked": 9, "broken": ""},
    ],
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
    found = [(one.verdict, one.why) for one in deviations(CURVLINOPS, REPORTS)]
    assert found == [
        (Verdict.WRONG, "curvlinops_padding_mode"),
        (
            Verdict.EXPLAINED,
            f"subclass of a layer: {EXPLAINED['curvlinops', 'subclass of a layer']}",
        ),
        (Verdict.UNEXPLAINED, ""),
    ]


def test_the_company_of_what_is_at_fault_is_not_accused() -> None:
    both = cause("trace", where=("dilation", "padding mode"))
    scores = [score("dilation", "wrong", 2), score("padding mode", "wrong", 2)]
    report = {**REPORT, "causes": [both], "scoreboard": scores}
    cells = by_feature(CURVLINOPS, {"it": report})
    assert cells["padding mode"].verdict is Verdict.WRONG
    assert cells["dilation"].verdict is Verdict.IN_DOUBT
    report["scoreboard"] = [{**score("dilation", "wrong", 2), "held": 3}]
    assert by_feature(CURVLINOPS, {"it": report})["dilation"].verdict is Verdict.EXACT


@pytest.mark.parametrize(
    ("features", "verdict"),
    [
        ([["Linear", "groups"], ["padding_idx"]], Verdict.EXPLAINED),
        ([["Linear", "groups"], ["Linear"]], Verdict.UNEXPLAINED),
    ],
)
def test_what_nothing_tells_apart_is_explained_where_each_problem_is(
    features: list[list[str]], verdict: Verdict
) -> None:
    report = {**REPORT, "causes": [apart(*features)]}
    (found,) = deviations(CURVLINOPS, {"it": report})
    assert found.verdict is verdict
    assert ("groups, padding_idx" in found.why) is (verdict is Verdict.EXPLAINED)
    assert by_law(CURVLINOPS, {"it": report})["trace"].verdict is verdict


def test_a_coincidence_names_no_feature() -> None:
    report = {**REPORT, "causes": [cause("trace", where=("groups",), sure=False)]}
    assert deviations(CURVLINOPS, {"it": report})[0].verdict is Verdict.UNEXPLAINED


def test_a_finding_without_features_is_about_what_is_wrong_everywhere() -> None:
    """ASDL's steps: they accuse no feature of what breaks one of their laws there alone."""
    asdl = next(one for one in LIBRARIES if one.name == "ASDL")
    by_itself = {**REPORT, "causes": [cause("P inverse", where=("dilation",))]}
    assert deviations(asdl, {"it": by_itself})[0].verdict is Verdict.UNEXPLAINED
    report = {**REPORT, "causes": [cause("trace", "recut")]}
    (found,) = deviations(asdl, {"it": report})
    assert (found.verdict, found.why) == (Verdict.WRONG, "asdl_ekfac_steps")


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
    found = cause(*(one.laws or ("trace",)), where=(feature,))
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
        "causes": [cause("trace", where=("a convolution",))],
    }
    assert [one.verdict for one in deviations(CURVLINOPS, {"it": report})] == [Verdict.UNEXPLAINED]
    assert by_feature(CURVLINOPS, {"it": report})["Conv2d"].verdict is Verdict.UNEXPLAINED
    assert by_law(CURVLINOPS, {"it": report})["trace"].verdict is Verdict.UNEXPLAINED
    by_manners = {**report, "causes": [cause("nan", where=("a convolution",))]}
    assert by_feature(CURVLINOPS, {"it": by_manners})["Conv2d"].verdict is Verdict.EXACT


def test_the_pages_hold_every_finding_and_the_counts() -> None:
    told = {one.id: "expected 4, got 1" for one in FINDINGS}
    head = {"date": "today", "torch": "2", "left_out": {"kfac-jax": "it did not install"}}
    reports = {"curvlinops": REPORTS}
    text = page(reports, told, head)
    assert all(f"### {one.id}\n" in text for one in FINDINGS)
    assert "left out: it did not install" in text
    assert "3 deviations were told apart: 1 are findings, 1 are explained, 1 are not" in text
    assert "| padding mode | [**wrong**](#curvlinops_padding_mode), 75% |" in text
    assert "### curvlinops_padding_mode" in text
    assert "[TRAIS-Lab/dattri#143](https://github.com/TRAIS-Lab/dattri/issues/143)" in text
    assert "(https://github.com/google-deepmind/kfac-jax/commit/babd853)" in text
    for library in LIBRARIES:
        if library.name in reports:
            assert f"\n- [{library.name}]({library.documented}). Documented" in text
    nothing = page(reports, told | {"curvlinops_padding_mode": "expected 0, got nan"}, head)
    assert "| padding mode | [**wrong**](#curvlinops_padding_mode), nan for 0 |" in nothing
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
    assert len(text.splitlines()) <= 30
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
def test_a_library_has_its_adapter(library: Library) -> None:
    adapter = Path("peers/adapters") / f"{library.module}.py"
    assert adapter.exists()


def test_every_script_belongs_to_a_finding_and_explanations_to_libraries() -> None:
    assert {p.stem for p in Path("peers/findings").glob("*.py")} == {f.id for f in FINDINGS}


def test_every_explanation_explains_something_of_the_last_run() -> None:
    """One that does not would hide what comes next."""
    reports = read()["reports"]
    told = {
        one.name: [
            *(found.why for found in deviations(one, reports[one.name])),
            *(cell.why for cell in by_feature(one, reports[one.name]).values()),
        ]
        for one in LIBRARIES
    }
    unused = [
        (name, feature)
        for (name, feature), reason in EXPLAINED.items()
        if not any(reason in why or feature in why for why in told[name])
    ]
    assert unused == []


def test_nothing_that_the_last_run_met_is_open() -> None:
    reports = read()["reports"]
    met = [found for one in LIBRARIES for found in deviations(one, reports[one.name])]
    assert [found for found in met if found.verdict is Verdict.UNEXPLAINED] == []
    cells = [
        (one.name, name)
        for one in LIBRARIES
        for cells in (by_feature(one, reports[one.name]), by_law(one, reports[one.name]))
        for name, cell in cells.items()
        if cell.verdict is Verdict.UNEXPLAINED
    ]
    assert cells == []
