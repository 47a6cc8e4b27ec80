"""Whose fault is an exception? What comes from the subject is its own, all else is the kit's."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import ekfac_ref as ek
from ekfac_ref.cli import main
from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.common import COMMON
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import FAULT, Blame, Status, Trouble
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Lane, Law
from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.process import wire
from ekfac_ref.conformance.reports.furthest import Furthest
from ekfac_ref.conformance.run import examiner
from ekfac_ref.conformance.run.examiner import Found, Here
from ekfac_ref.conformance.run.profile import PROFILES, Profile
from ekfac_ref.conformance.run.raised import cut, message
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.run.tally import Broken, Said
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.examples import reference

ONE = Profile("one", 2, 0.1)


class Bad:
    """An operator whose one attribute raises."""

    def __init__(self, operator: Any, bad: str) -> None:
        self._operator, self._bad = operator, bad

    def __getattr__(self, name: str) -> Any:
        if name == self._bad:
            raise RuntimeError("the subject's own")
        return getattr(self._operator, name)


def with_bad(name: str) -> Callable[[ek.Problem], Any]:
    return lambda problem: {n: Bad(E, name) for n, E in ek.ekfac(problem).items()}


def raises(*arguments: Any) -> Any:
    raise RuntimeError("the subject's own")


class Keys(dict[str, Any]):
    keys = raises


BAD = {
    "it": Subject("it", raises),
    "its kfac": replace(reference, kfac=raises),
    "its exact_fisher": replace(reference, exact_fisher=raises),
    "its precondition": replace(reference, precondition=raises),
    "its keys": Subject("it", lambda problem: Keys(ek.ekfac(problem))),
    "matvec": Subject("it", with_bad("matvec")),
    "solve": Subject("it", with_bad("solve")),
    "Q_B": Subject("it", with_bad("Q_B")),
    "blocks": Subject("it", with_bad("blocks")),
    "a method": Subject(
        "it", lambda problem: {n: SimpleNamespace(matvec=raises) for n in ek.ekfac(problem)}
    ),
    # The package's own code is a subject like any other.
    "the reference": Subject("it", lambda problem: ek.ekfac(replace(problem, batches=[]))),
    "the kit's code": Subject("it", lambda problem: LAWS["trace"].ask(problem)),  # type: ignore
}


# What only some laws ask for is refused to these.
LANES = {"its precondition": Lane.PRECONDITION, "solve": Lane.SOLVE, "Q_B": Lane.BASIS}


@pytest.mark.parametrize("name", [name for name in BAD if name not in LANES])
def test_what_the_subject_raises_is_its_own(name: str) -> None:
    """And an answer: it refuses. One that refuses all has answered too little."""
    report = Run(Here(BAD[name]), ONE).report()
    assert (report.exit_code, report.faults) == (3, [])
    if name == "the kit's code":  # it is called with what it does not take
        assert {trouble.blame for trouble in report.troubles} == {Blame.SUBJECT}
    else:
        assert {trouble.blame for trouble in report.refused} == {Blame.REFUSED}
        assert report.too_few == "0 of 2 problems were answered, and it takes 2"


@pytest.mark.parametrize("name", LANES)
def test_what_only_some_laws_ask_for_is_refused_to_them(name: str) -> None:
    report = Run(Here(BAD[name]), ONE).report()
    refused = {v.law.name for v in report.verdicts if v.status is Status.REFUSED}
    assert refused >= {law.name for law in LAWS.values() if law.lane is LANES[name]}
    assert len(refused) < 5  # all else is judged
    assert (report.troubles, report.refused, report.answered) == ([], [], 2)
    assert report.exit_code in (0, 5)


def faulty(says: str = "linalg.eigh: the algorithm failed") -> Law:
    def ask(trial: Trial) -> Iterator[float]:
        _ = trial.cases
        raise RuntimeError(says)
        yield 0.0

    return replace(LAWS["trace"], ask=ask)


def test_what_the_kit_raises_is_its_own() -> None:
    report = Run(Here(reference), ONE, laws=[faulty(), LAWS["psd"]]).report()
    assert report.exit_code == 6
    assert [trouble.blame for trouble in report.faults] == [Blame.KIT] * 2
    assert report.summary == f"No verdict: {FAULT} (no law was broken)."
    what = report.faults[0].what
    assert what.startswith("the kit itself raised RuntimeError: linalg.eigh: the algorithm failed")
    assert "test_faults.py" in what
    assert "RuntimeError" in report.faults[0].traceback


def test_a_fault_is_never_a_verdict() -> None:
    """Whatever else was found: a judge that fails is not to be believed."""
    wrong = Subject("wrong", lambda p: {n: E.scaled(2.0) for n, E in ek.ekfac(p).items()})
    report = Run(Here(wrong), ONE, laws=[LAWS["trace"], faulty()]).report()
    assert report.exit_code == 6
    assert "broken: trace" in report.summary


def test_a_fault_in_the_search_for_what_a_law_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner, "blind", raises)
    assert Run(Here(reference), ONE, laws=[LAWS["trace"]]).report().exit_code == 6


@pytest.mark.parametrize("kind", [MemoryError, RecursionError, UserWarning])
def test_what_is_left_to_the_kit_by_the_process_is_not_the_kits(kind: type[Exception]) -> None:
    def ask(trial: Trial) -> Iterator[float]:
        raise kind
        yield 0.0

    report = Run(Here(reference), ONE, laws=[replace(LAWS["trace"], ask=ask)]).report()
    assert (report.exit_code, report.faults) == (3, [])


def test_a_fault_is_told_in_every_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setitem(PROFILES, "demo", ONE)
    monkeypatch.setattr(examiner, "said", lambda law, trial, refusal: list(faulty().ask(trial)))
    page = tmp_path / "out.html"
    asked = ["check", "ekfac_ref.examples:reference", "--profile", "demo", "--in-process"]
    assert main([*asked, "--report", str(page)]) == 6
    out = capsys.readouterr().out
    assert "please report it" in out.splitlines()[-1]
    assert "2 of 2: the kit itself raised RuntimeError: linalg.eigh" in out
    assert "please report it" in page.read_text()


def test_a_fault_of_the_command_is_one_of_the_kits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ekfac_ref.commands.check.Run", raises)
    assert main(["check", "ekfac_ref.examples:reference", "--in-process"]) == 6
    assert FAULT in capsys.readouterr().err


def test_two_processes_understand_each_other() -> None:
    broken = Broken(Written("problem = 1"), LawBroken("off", float("inf")), 1e-16)
    said = [Said("trace", True, [0.5, float("nan")], None), Said("psd", False, [], broken)]
    trouble = Trouble("what", "where", None, "", Blame.KIT)
    found = Found(said, [broken], ["psd"], "a sentence", "a name", trouble)
    again = wire.found_from(wire.found_as_plain(found), Written("x"), "heard")
    assert json.dumps(wire.found_as_plain(again)) == json.dumps(wire.found_as_plain(found))
    assert again.trouble
    assert (again.trouble.blame, again.trouble.printed) == (Blame.KIT, "heard")
    matrices = Furthest("0", "K", torch.eye(2).double(), torch.ones(2, 2).double(), True)
    other = wire.furthest_from(wire.furthest_as_plain(matrices))
    assert torch.equal(other.got, matrices.got)
    assert (other.layer, other.name, other.one_of_several) == ("0", "K", True)


def test_texts_have_an_end_and_need_not_be_tellable() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise SystemExit

    assert message(Odd()) == "Odd, whose text cannot be told (it raised SystemExit)"
    assert len(message(ValueError("x" * 10**6))) < 2_100
    assert cut("abcdef", 4) == "ab [... 2 characters ...] ef"


def test_a_fault_goes_before_everything() -> None:
    lost = Trouble("lost", "", Written(""), blame=Blame.LOST)
    kit = Trouble("kit", "", Written(""), blame=Blame.KIT)
    assert Report("it", "demo", 0, [], [lost, kit], 5, 1, complete=False).exit_code == 6
    assert Report("it", "demo", 0, [], [lost], 5, 1, complete=False).exit_code == 3


def test_whatever_a_cause_may_name_comes_over() -> None:
    where = Conjunction((*FEATURES, *COMMON), (*COMMON, *FEATURES))
    assert wire.where_from(json.loads(json.dumps(wire.where_as_plain(where)))) == where
    with pytest.raises(ValueError, match="no features"):
        wire.where_from({"present": ["several"], "absent": []})
