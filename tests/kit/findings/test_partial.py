"""Whole runs of subjects that do some things and refuse others, and of some with two mistakes."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.cli import main
from ekfac_ref.conformance.diagnosis.diagnose import Diagnosis
from ekfac_ref.conformance.findings.verdicts import Blame
from ekfac_ref.conformance.laws import catalogue
from ekfac_ref.conformance.problems.features import features
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import PROFILES
from ekfac_ref.conformance.run.run import Run
from tests.support.partial_subjects import ekfac
from tests.support.refusing import CONV2D, conv2d, refusing, wrong

LAWS = ("trace", "moments")
DESIGNED = ct.Profile("designed", 73, 0.0)
SOME = ct.Profile("some", 36, 0.1)


def test_a_right_conv2d_that_refuses_four_features_conforms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.draw_problems", ct.draw_problems)
    report = ct.check(conv2d, DESIGNED, laws=["trace"])
    assert report.exit_code == 0, report.summary
    assert report.answered >= 20
    assert f"and it refuses {len(report.refused)} others" in report.summary
    assert {one.blame for one in report.refused} == {Blame.REFUSED}
    told = {frozenset(one.features): one.says.split(":")[0] for one in report.refusals}
    assert told == {
        frozenset({"groups"}): "it raised NotImplementedError",
        frozenset({"dilation"}): "it raised UnsupportedError",
        frozenset({"padding same, even", "padding same, odd"}): "it raised ValueError",
        frozenset({"padding mode"}): "it raised AssertionError",
    }
    board = {score.name: score.standing.value for score in report.scoreboard}
    assert {n for n, s in board.items() if s == "refuses"} == set().union(*told)
    assert board["Conv2d"] == board["stride"] == "exact"
    assert "wrong" not in board.values()


def test_declined_it_is_as_declared_and_judged_where_it_answers() -> None:
    declines = ("mask", "float32", "reduce")
    can = ct.Abilities(layers=(nn.Linear,), declines=declines)
    subject = ct.Subject("it", refusing(["mask", "float32"]), abilities=can)
    report = ct.check(subject, ct.Profile("some", 44, 0.0), laws=["trace"])
    assert report.exit_code == 0, report.summary
    rows = {score.name: score for score in report.scoreboard}
    assert [rows[n].standing.value for n in declines] == ["refuses", "refuses", "exact"]
    assert [rows[n].known for n in declines] == ["declined"] * 3
    (line,) = report.sentences
    assert line.startswith("As declared: Refuses ")
    # What is declined and answered after all is judged.
    subject = ct.Subject("it", wrong({("reduce",): 2.0}), abilities=can)
    report = ct.check(subject, ct.Profile("few", 20, 0.0), laws=["trace"])
    assert report.exit_code == 1
    assert report.sentences[0].startswith("Wrong exactly where reduce: ")


def test_what_can_be_declined_is_a_feature() -> None:
    with pytest.raises(ek.ProblemError, match="abilities, declines: there is no 'group'; did you"):
        ct.Abilities(declines=("group",))
    with pytest.raises(ek.ProblemError, match=r"declines is a text; write \('groups',\)"):
        ct.Abilities(declines="groups")  # type: ignore[arg-type]


def test_a_refusal_hides_no_mistake() -> None:
    """Nor the diagnosis, nor the problem to look at."""
    ask = refusing(["Poisson"], wrong({("in-place activation",): 2.0}))
    report = ct.check(ask, SOME, laws=LAWS)
    assert report.exit_code == 1
    assert report.summary == "It does not conform (broken: trace, moments)."
    assert report.diagnosis == "It looks like one."
    assert report.sentences[0].startswith("Wrong exactly where in-place activation: ")
    assert report.sentences[-1].startswith("Refuses ")
    assert ", exactly where Poisson: " in report.sentences[-1]
    (one,) = report.exhibits
    assert {*one.says} == {"trace", "moments"}
    assert "in-place activation" in features(one.problem.rebuilt)


def test_little_that_is_answered_is_enough_to_see_a_mistake() -> None:
    ask = refusing(["no bias"], wrong({("Linear",): 2.0}))
    report = ct.check(ask, ct.Profile("few", 24, 0.0), laws=["trace"])
    assert 0 < report.answered < 20
    assert report.too_few
    assert report.exit_code == 1
    assert report.summary == "It does not conform (broken: trace)."


def test_neither_does_a_bad_answer() -> None:
    """The verdict is none, and what is broken is told and diagnosed all the same."""

    def ask(problem: ek.Problem) -> Any:
        return 7 if "mask" in features(problem) else wrong({("Poisson",): 2.0})(problem)

    report = ct.check(ask, SOME, laws=["trace"])
    assert report.exit_code == 3
    assert "broken: trace" in report.summary
    assert " where Poisson: " in report.sentences[0]
    assert report.diagnosis


def test_two_mistakes_are_two_names() -> None:
    """Each with laws and a problem of its own, which shrinking does not swap."""
    ask = wrong({("dilation",): 2.0, ("called twice",): 3.0})
    report = ct.check(ask, SOME, laws=["trace", "moments", "symmetry"])
    told = [line.split(":")[0] for line in report.sentences[:2]]
    assert sorted(told) == [
        "Wrong exactly where called twice",
        "Wrong exactly where dilation",
    ]
    assert report.diagnosis == f"Where {', and where '.join(told_of(report))}: It looks like one."
    for one in report.exhibits:
        (name,) = one.cause.attributed.where.present if one.cause.attributed else ("",)
        assert name in features(one.problem.rebuilt)
        assert {*one.says} == {"trace", "moments"}
    rows = {score.name: score.standing.value for score in report.scoreboard}
    assert {n for n, s in rows.items() if s == "wrong"} == {"dilation", "called twice"}


def told_of(report: ct.Report) -> list[str]:
    found = [str(cause.attributed.where) for cause in report.causes if cause.attributed]
    assert sorted(found) == ["called twice", "dilation"]
    return found


def test_one_that_refuses_all_gets_no_verdict() -> None:
    only = ct.Subject("it", refusing(["Conv2d"]), abilities=CONV2D)
    report = ct.check(only, ct.Profile("few", 24, 0.0), laws=["trace"])
    assert report.exit_code == 3
    assert report.summary == (
        "No verdict: 0 of 24 problems were answered, and it takes 20 (no law was broken)."
    )
    (line,) = report.sentences
    assert line.startswith("Refuses 24 of 24 problems")


def test_a_kind_of_layer_that_is_never_answered() -> None:
    report = ct.check(refusing(["Embedding"]), SOME, laws=["trace"])
    assert report.exit_code == 3
    assert "no plain problem with Embedding was answered" in report.summary
    can = ct.Abilities(declines=("Embedding",))
    declared = ct.Subject("it", refusing(["Embedding"]), abilities=can)
    assert ct.check(declared, SOME, laws=["trace"]).exit_code == 0


def test_only_what_is_asked_beside_is_refused() -> None:
    """A law that asks about other problems is refused there, and all others are judged."""

    def ask(problem: ek.Problem) -> Any:
        if len({len(y) for _, y in problem.batches}) == 1 and len(problem.batches) > 1:
            raise NotImplementedError("uneven batches only")
        return ekfac(problem)

    report = ct.check(ask, ct.Profile("few", 30, 0.0), laws=["trace", "recut", "doubled"])
    assert report.answered >= 20
    refused = {v.law.name: v.refused[0] for v in report.verdicts}
    assert refused["trace"] == 0
    assert refused["recut"] + refused["doubled"] > 0
    says = next(v.refused[1] for v in report.verdicts if v.refused[0])
    assert says.startswith("it raised NotImplementedError: uneven batches only (test_partial.py")


def test_the_three_reports_begin_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a process of its own."""
    monkeypatch.setitem(PROFILES, "demo", ct.Profile("demo", 90, 0.2))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.py").write_text(
        "from tests.support.refusing import refusing, wrong\n"
        'ekfac = refusing(["no bias"], wrong({("groups",): 2.0}))\n'
    )
    files = ["--report", "out.html", "--json", "out.json"]
    asked = ["check", "theirs:ekfac", "--profile", "demo", "--law", "trace"]
    monkeypatch.setattr(
        "ekfac_ref.conformance.process.apart.Apart.diagnose",
        lambda self, seed, problems=(): ct_found("It <b>looks</b> like one."),
    )
    assert main([*asked, *files]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1] == "It does not conform (broken: trace)."
    assert lines[1].startswith("Wrong exactly where groups: ")
    assert lines[1].endswith(" others: trace.")
    assert lines[2] == "Diagnosis: It <b>looks</b> like one."
    assert re.match(r"Refuses (\d+) of 90 problems, exactly where no bias: \1 of \1 such", lines[3])
    assert re.search(r"groups +│ wrong", "\n".join(lines[:9]))
    assert sum(line.startswith("must hold: ") for line in lines) == 1

    found = json.loads((tmp_path / "out.json").read_text())
    assert list(found)[:5] == ["subject", "summary", "exit_code", "sentences", "scoreboard"]
    assert found["sentences"] == lines[1:4]
    first = found["scoreboard"][0]
    assert (first["name"], first["standing"]) == ("groups", "wrong")
    assert first["held"] == 0 < first["broken"]
    (cause,) = found["causes"]
    assert (cause["where"]["where"]["present"], cause["laws"]) == (
        ["groups"],
        ["trace"],
    )
    assert len(cause["features"]) == len(cause["problems"])
    assert all("groups" in features for features in cause["features"])
    (refusal,) = found["refusals"]
    assert "NotImplementedError" in refusal["traceback"]

    page = (tmp_path / "out.html").read_text()
    assert page.index("It &lt;b&gt;looks&lt;/b&gt; like one.") < page.index('id="features"')
    assert page.index('id="features"') < page.index("What is wrong") < page.index('id="laws"')
    assert page.count('src="data:image/png;base64,') == 1
    # For who reads by ear or by keyboard, and for who copies.
    assert page.count("<th ") == page.count('<th scope="')
    assert page.count("<pre") == page.count('<pre tabindex="0" role="group" aria-label="')
    assert page.count("<button") == page.count("import ekfac_ref as ek")
    assert {"<header>", "<main>", "<footer>", '<html lang="en">'} <= {*re.findall(r"<[^>]+>", page)}


def ct_found(sentence: str) -> Any:
    from ekfac_ref.conformance.run.examiner import Found

    return Found(sentence=sentence)


def test_in_a_notebook_and_at_the_prompt() -> None:
    report = ct.check(wrong({("float32",): 2.0}), ct.Profile("few", 12, 0.0), laws=["trace"])
    assert repr(report) == (
        "<Report on subject, exit code 1: It does not conform (broken: trace).>"
    )
    html = report._repr_html_()
    assert html.startswith(
        "<p>It does not conform (broken: trace).</p><p>Wrong exactly where float32"
    )
    assert "<th scope='row'>float32</th><td>wrong</td>" in html


@pytest.mark.parametrize(
    ("twice", "dilated", "anywhere", "says"),
    [
        ("halved", "doubled", "never", "Where dilation: doubled. Where called twice: halved."),
        ("halved", "halved", "never", "Where dilation, and where called twice: halved."),
        ("halved", "", "halved", "halved."),
        ("", "", "halved", "halved."),
        ("", "", "", "Where dilation, and where called twice: nothing fits."),
        ("halved", "", "", "Where dilation: nothing fits. Where called twice: halved."),
        ("halved", "", "doubled", "Where dilation: nothing fits. Where called twice: halved."),
    ],
)
def test_a_mistake_has_its_name_once(
    twice: str, dilated: str, anywhere: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has none on the problems of a cause may have one on whatever problems."""

    def diagnosed(subject: ct.Subject, problems: list[ek.Problem], **rest: Any) -> Diagnosis:
        by_twice = all("called twice" in features(problem) for problem in problems)
        named = (twice if by_twice else dilated) if problems else anywhere
        return Diagnosis([], f"{named or 'nothing fits'}.", named)

    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.diagnose", diagnosed)
    run, report = of_two_mistakes()
    assert run.diagnosed(report).diagnosis == says


@cache
def of_two_mistakes() -> tuple[Run, ct.Report]:
    ask = wrong({("dilation",): 2.0, ("called twice",): 3.0})
    run = Run(Here(ct.Subject("two", ask)), SOME, laws=[catalogue.LAWS["trace"]])
    return run, run.report()
