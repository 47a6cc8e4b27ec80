"""JUnit XML: a suite that passes where the exit code is 0, and nowhere else."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ekfac_ref.cli import main
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Blame, Status, Trouble, Verdict
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.reports.as_junit import as_junit
from ekfac_ref.conformance.run.profile import PROFILES, Profile

TRACE = LAWS["trace"]
TROUBLES = [[], [Trouble("it raised", "", None)], [Trouble("!", "", None, blame=Blame.KIT)]]


def report(*statuses: Status, complete: bool = True) -> Report:
    verdicts = [Verdict(TRACE, status, 4, 1.0) for status in statuses]
    return Report("mine\x1b[2J", "demo", 0, verdicts, [], 4, 4, complete=complete)


def suite(one: Report) -> ElementTree.Element:
    return ElementTree.fromstring(as_junit(one, "ekfac-ref check mine"))


def wrong(found: ElementTree.Element) -> int:
    return len([*found.iter("failure"), *found.iter("error")])


@pytest.mark.parametrize("status", Status)
def test_it_passes_where_the_exit_code_is_0(status: Status) -> None:
    for troubles, complete in product(TROUBLES, (True, False)):
        one = replace(report(Status.PASS, status, complete=complete), troubles=troubles)
        found = suite(one)
        assert (wrong(found) == 0) == (one.exit_code == 0)
        assert int(found.attrib["failures"]) + int(found.attrib["errors"]) == wrong(found)
        assert int(found.attrib["skipped"]) == len([*found.iter("skipped")])
        assert int(found.attrib["tests"]) == len([*found.iter("testcase")]) == 3


def test_a_failure_tells_the_law_and_its_problem() -> None:
    written = Written.of(draw_problems(Abilities(), 1, 0)[0])
    broken = replace(report(Status.FAIL).verdicts[0], broken="too large\x00", problem=written)
    (failure,) = suite(replace(report(), verdicts=[broken])).iter("failure")
    assert failure.text is not None
    assert f"must hold: {TRACE.statement}" in failure.text
    assert "found: too large\\x00" in failure.text
    assert written.text.splitlines()[-1] in failure.text


def test_a_known_deviation_is_skipped_with_its_reason() -> None:
    known = replace(report(Status.EXPECTED_FAILURE).verdicts[0], reason="checked before")
    (skipped,) = suite(replace(report(), verdicts=[known])).iter("skipped")
    assert skipped.text is not None
    assert "known: checked before" in skipped.text


def test_the_command_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PROFILES, "demo", Profile("demo", 2, 0.1))
    path = tmp_path / "out.xml"
    asked = ["check", "mutant:twice", "--profile", "demo", "--law", "trace", "--in-process"]
    assert main([*asked, "--junit", str(path)]) == 1
    assert ElementTree.parse(path).getroot().attrib["failures"] == "1"
    assert main([*asked, "--junit", str(path), "--json", str(path)]) == 2
    assert "--json and --junit are one file" in capsys.readouterr().err
