"""Deviations that are known: named rightly, with a reason, and still there."""

import json
from pathlib import Path
from typing import Any

import pytest

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.cli import main
from ekfac_ref.conformance.findings.known import KnownDeviations, known_from
from ekfac_ref.conformance.run.profile import PROFILES
from tests.support.partial_subjects import ekfac
from tests.support.refusing import refusing, wrong

SOME = ct.Profile("some", 30, 0.0)
ASKED = ("trace", "commutes")
WHY = "not today"


def check(ask: Any, **known: dict[str, str]) -> ct.Report:
    return ct.check(ask, SOME, laws=ASKED, known=KnownDeviations(**known))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "known: no JSON (Expecting property name"),
        ("[]", "known: a list; write objects ['laws', 'features', 'refusals'] in one."),
        ('{"law": {}}', "known: there is no 'law'; did you mean 'laws'?"),
        ('{"laws": ["trace"]}', "known, laws: a list; give a dict of name and reason."),
        ('{"laws": {"trade": "x"}}', "known, laws: there is no 'trade'; did you mean 'trace'?"),
        ('{"features": {"group": "x"}}', "known, features: there is no 'group'; did you mean 'gro"),
        ('{"refusals": {"maks": "x"}}', "known, refusals: there is no 'maks'; did you mean 'mask'"),
        ('{"laws": {"trace": " "}}', "known, laws: 'trace' has no reason; write one, as text."),
        ('{"laws": {"trace": 3}}', "known, laws: 'trace' has no reason; write one, as text."),
    ],
)
def test_what_is_no_such_thing_is_refused(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ek.ProblemError) as error:
        known_from(text)
    assert str(error.value).startswith(says)
    (file := tmp_path / "known.json").write_text(text)
    with pytest.raises(SystemExit) as exit_:
        main(["check", "a:b", "--known", str(file)])
    assert exit_.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_a_feature_that_is_wrong_as_known() -> None:
    """Its problems are left out of the verdicts, and what is wrong beside is not excused."""
    report = check(wrong({("in-place activation",): 2.0}), features={"in-place activation": WHY})
    assert report.exit_code == 0, report.summary
    (trace, _) = sorted(report.verdicts, key=lambda v: v.law.name, reverse=True)
    having = sum("in-place activation" in one.features for one in report.outcomes)
    assert (trace.status, trace.asked) == (ct.Status.PASS, 30 - having)
    assert report.causes == []
    row = next(s for s in report.scoreboard if s.name == "in-place activation")
    assert (row.standing.value, row.known, row.broken) == ("wrong", WHY, having)
    assert f"in-place activation is wrong as known, on {having} problems: {WHY}" in report.sentences

    both = wrong({("in-place activation",): 2.0, ("float32",): 3.0})
    report = check(both, features={"in-place activation": WHY})
    assert report.exit_code == 1
    assert [str(cause.attributed.where) for cause in report.causes if cause.attributed] == [
        "float32"
    ]


@pytest.mark.parametrize("what", ["features", "refusals"])
def test_what_is_known_has_to_show(what: str) -> None:
    report = check(ekfac, **{what: {"float32": WHY}})
    assert report.exit_code == 1
    assert f"known as deviations, but held: {what[:-1]}" in (report.summary)
    assert "float32 is " in report.sentences[-1]
    assert "no longer" in report.sentences[-1]
    never = check(ekfac, **{what: {"bfloat16": WHY}})  # which is not drawn
    assert never.exit_code == 5
    assert "no problem could show the known" in never.summary


def test_a_refusal_as_known() -> None:
    name = "ignored labels"
    report = check(refusing([name]), refusals={name: WHY})
    assert report.exit_code == 0, report.summary
    assert report.refused
    assert any(line.startswith("As declared: Refuses ") for line in report.sentences)


def test_the_command_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PROFILES, "demo", ct.Profile("demo", 6, 0.0))
    (file := tmp_path / "known.json").write_text(json.dumps({"laws": {"trace": "a sum"}}))
    asked = ["check", "mutant:twice", "--profile", "demo", "--law", "trace", "--in-process"]
    assert main([*asked, "--known", str(file)]) == 0
    out = capsys.readouterr().out
    assert "expected failure" in out
    assert f"--known {file} --in-process" in out
