"""Whatever a subject does, a run goes on to its end and says what it was."""

import functools
import json
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.cli import main
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.kept import PRINTED
from ekfac_ref.conformance.run.profile import PROFILES, Profile
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.run.time_limit import TookTooLong, at_most
from ekfac_ref.conformance.subjects.snapshot import snapshot
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.observation import observe
from tests.support import bad_subjects

ROOT = Path(__file__).parents[2]
TRACE = [law for law in LAWS.values() if law.name == "trace"]
drawn = functools.cache(draw_problems)  # one draw for all runs of this file


def tiny() -> ek.Problem:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).eval()
    x, y = torch.randn(3, 2), torch.randn(3, 1)
    return ek.Problem(model, [(x[:2], y[:2]), (x[2:], y[2:])], ek.Gaussian())


@pytest.fixture(autouse=True)
def _as_small_as_it_gets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(PROFILES, "demo", Profile("demo", 4, 0.3))
    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.draw_problems", drawn)
    observe(tiny())  # torch warms up, which is not the subject's time


def run(tmp_path: Path, name: str, *more: str) -> tuple[int, dict[str, Any], str]:
    """(exit code, the report for programs, the page) of a check in this process."""
    page, data = tmp_path / "out.html", tmp_path / "out.json"
    arguments = [
        "check",
        f"tests.support.bad_subjects:{name}",
        "--profile",
        "demo",
        "--law",
        "trace",
        "--in-process",
    ]
    code = main([*arguments, "--report", str(page), "--json", str(data), *more])
    return code, json.loads(data.read_text()), page.read_text()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("exits", "2 of 4: it raised SystemExit: 0 (bad_subjects.py,"),
        ("wrong_shape", "matvec returned shape ["),
        ("wrong_names", "ekfac returned ['module."),
        ("no_dict", "ekfac returned list, expected a dict of ['"),
        ("not_a_number", "matvec returned NaN or infinity"),
        ("not_a_tensor", "matvec returned a list, not a tensor"),
    ],
)
def test_a_bad_answer_is_told_and_the_others_are_judged(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, page = run(tmp_path, name)
    out = capsys.readouterr().out
    assert code == found["exit_code"] == 3
    assert says in out
    assert out.splitlines()[-1].startswith("No verdict: 2 of 4 problems got no answer")
    assert "Traceback" not in out
    assert len(found["troubles"]) == 2
    assert [v["asked"] for v in found["verdicts"]] == [2]
    assert [v["status"] for v in found["verdicts"]] == ["pass"]
    assert "Problems without an answer" in page


def test_a_refusal_is_told_and_the_others_are_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, page = run(tmp_path, "raises")
    out = capsys.readouterr().out
    assert code == found["exit_code"] == 3  # too few for a verdict
    assert out.splitlines()[0] == out.splitlines()[-1] == found["summary"]
    assert found["summary"].startswith("No verdict: 2 of 4 problems were answered, and it takes 4")
    says = "it raised ZeroDivisionError: this layer is unknown (bad_subjects.py,"
    assert "\nRefuses 2 of 4 problems" in out
    assert says in out
    assert "Traceback" not in out
    assert (found["troubles"], found["answered"]) == ([], 2)
    (refusal,) = found["refusals"]
    assert " ".join(refusal["says"].split()).startswith(says)
    assert [(v["status"], v["asked"]) for v in found["verdicts"]] == [("pass", 2)]
    assert "<summary>Traceback of the first</summary>" in page
    assert "ZeroDivisionError" in refusal["traceback"]
    assert "print(ct.ask(subject, problem))" in refusal["problem"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_module:subject", "no_such_module cannot be imported (ModuleNotFoundError"),
        ("tests.support.bad_subjects:absent", "has no 'absent'"),
        ("tests.support.bad_subjects", "write it as package.module:name"),
        ("tests.support.bad_subjects:nothing", "a int cannot be asked for anything"),
        ("mutant:no-such", "no such mutant; choose among ["),
        ("breaks_on_import:subject", "cannot be imported (RuntimeError: [red]no\\x1b wings)"),
        ("exits_on_import:subject", "its module exits when imported (0)"),
        ("tells_nothing:subject", "cannot be imported (Odd, whose text cannot be told (it raised"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(
    path: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "breaks_on_import.py").write_text("raise RuntimeError('[red]no\\x1b\\nwings')\n")
    (tmp_path / "exits_on_import.py").write_text("raise SystemExit(0)\n")
    odd = "class Odd(Exception):\n    def __str__(self): raise KeyError\nraise Odd\n"
    (tmp_path / "tells_nothing.py").write_text(odd)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", path, "--in-process", "--json", str(tmp_path / "out.json")]) == 3
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["exit_code"], len(found["troubles"]), found["verdicts"]) == (3, 1, [])
    assert says.replace("\\x1b", "\x1b").replace(" wings", "\nwings") in found["summary"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert says in captured.err


def test_what_it_prints_is_caught(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, page = run(tmp_path, "prints")
    out = capsys.readouterr().out
    assert code == 0
    assert found["printed"].count("so many layers:") == 4
    assert "The subject printed:\n    so many layers: " in out
    assert "so many layers:" in page
    assert out.splitlines()[-1] == "It conforms: 1 law holds, on 4 problems."


def test_markup_stays_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, page = run(tmp_path, "markup")
    out = capsys.readouterr().out
    shown = bad_subjects.MARKUP.replace("\x1b", "\\x1b")
    assert code == 3
    assert out.count(shown) == 3  # one line of refusal, two that were printed
    assert "\x1b" not in out + page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert found["refusals"][0]["printed"] == bad_subjects.MARKUP + "\n"


def test_a_hanging_one_is_stopped() -> None:
    run = Run(Here(bad_subjects.hangs, 3.0), Profile("two", 2, 0.0), laws=TRACE)
    start = time.monotonic()
    report = run.report()
    assert 3 <= time.monotonic() - start < 20
    assert report.exit_code == 3
    assert [trouble.what for trouble in report.troubles] == ["it took more than 3 s"]
    assert "time.sleep(60)" in report.troubles[0].traceback
    assert [verdict.asked for verdict in report.verdicts] == [1]


def test_the_library_keeps_no_thread_and_no_process() -> None:
    seen: set[str] = set()

    def ask(problem: ek.Problem) -> Any:
        seen.update(thread.name for thread in threading.enumerate())
        return ek.ekfac(problem)

    before = {thread.name for thread in threading.enumerate()}
    report = Run(Here(Subject("asks", ask)), Profile("two", 2, 0.0), laws=TRACE).report()
    assert not report.apart
    assert seen == before


def test_one_that_hangs_always_is_given_up() -> None:
    def hangs(problem: ek.Problem) -> Any:
        time.sleep(60)

    report = Run(Here(Subject("hangs", hangs), 0.2), Profile("ten", 10, 0.0), laws=TRACE).report()
    assert (report.given_up, report.asked, report.exit_code) == (True, 3, 3)
    assert "3 of 10 problems got no answer that laws could be asked of; it was asked no more" in (
        report.summary
    )


def test_what_is_printed_is_kept_up_to_a_size() -> None:
    def loud(problem: ek.Problem) -> Any:
        for _ in range(50):
            print("x" * 100_000)
        return ek.ekfac(problem)

    report = Run(Here(Subject("loud", loud)), Profile("two", 2, 0.0), laws=TRACE).report()
    assert report.exit_code == 0
    assert len(report.printed) < 1.1 * PRINTED
    assert "more characters" in report.printed


def _interrupt() -> None:
    raise KeyboardInterrupt  # as an exception: a process in the background may ignore the signal


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (lambda: sys.exit(0), "none, on another problem it raised SystemExit: 0"),
        (_interrupt, "none, it was interrupted."),
        (
            lambda: time.sleep(60),
            "none, on another problem it took more than 3 s",
        ),
    ],
)
def test_a_verdict_outlives_the_diagnosis(
    late: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def once_more(subject: Subject, **rest: Any) -> None:
        asked_late.append(late)
        subject.ekfac(tiny())

    def ask(problem: ek.Problem) -> Any:
        while asked_late:
            asked_late.pop()()
        return bad_subjects.wrong(problem)

    asked_late: list[Any] = []
    monkeypatch.setattr("ekfac_ref.commands.subject.load", lambda path: Subject(path, ask))
    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.diagnose", once_more)
    asked = ["check", "it", "--profile", "demo", "--law", "trace", "--seconds", "3", "--in-process"]
    assert main([*asked, "--json", str(tmp_path / "out.json")]) == 1
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["exit_code"], found["complete"]) == (1, True)
    assert found["diagnosis"].startswith(says)


def test_the_alarm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TookTooLong, match=r"it took more than 0\.05 s"), at_most(0.05):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_an_alarm_in_a_destructor_comes_again_and_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: told.append(dropped.exc_value))
    fault = ValueError("of the subject's own destructor")

    def die(seconds: float) -> None:
        time.sleep(seconds)
        raise fault

    def outlive() -> None:
        for seconds in (0.0, 5.0):
            mortal = type("Mortal", (), {})()
            heir = weakref.ref(mortal, lambda _, seconds=seconds: die(seconds))
            del mortal
        time.sleep(5)
        pytest.fail(f"the alarm did not come again: {heir}")

    with pytest.raises(TookTooLong), at_most(0.05):
        outlive()
    assert told == [fault]


def test_an_interrupt_leaves_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, page = run(tmp_path, "interrupted")
    assert code == found["exit_code"] == 4
    assert found["complete"] is False
    assert (found["asked"], found["problems"]) == (1, 4)
    assert "Incomplete: the run was interrupted." in page
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "Incomplete: interrupted, 1 of 4 problems (no law was broken)."


def test_coupled_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 2, groups=2), nn.Flatten()).eval()
    grouped = ek.Problem(model, [(torch.randn(2, 2, 3), torch.randn(2, 8))], ek.Gaussian())
    problems = [tiny(), grouped, tiny()]
    monkeypatch.setattr("ekfac_ref.conformance.run.examiner.draw_problems", lambda *_: problems)
    code, found, _ = run(tmp_path, "coupled")
    assert code == 3
    says = "1 of 3: layer '0': its groups are coupled; every group is a block of its own\n"
    assert says in capsys.readouterr().out
    assert [(v["status"], v["asked"]) for v in found["verdicts"]] == [("pass", 2)]


@pytest.mark.parametrize("ask", [bad_subjects.changes, bad_subjects.changes_and_raises])
def test_what_it_changes_is_seen(ask: bad_subjects.Ask) -> None:
    problem = tiny()
    before = snapshot(problem.model, problem.batches)
    trial = Trial(Subject("changes", ask), problem)
    if ask is bad_subjects.changes:
        assert len(trial.cases) == 2
    else:
        with pytest.raises(ValueError, match="too late"):
            _ = trial.cases
    assert {
        "ekfac, parameter '0.weight' values: changed",
        "ekfac, module '' values: changed",
        "ekfac, module '' hooks: changed",
        "ekfac, data 4 values: new",
        "ekfac, torch rng: changed",
    } <= set(trial.changes)
    assert not any("0.bias" in line for line in trial.changes)
    # What the subject got is a copy, and random states of its own.
    assert snapshot(problem.model, problem.batches) == before


def test_what_a_transform_leaves_behind_is_seen() -> None:
    """torch's functional_call on a module under two names does, of a tensor without memory."""
    left: list[torch.Tensor] = []

    def keeping(x: torch.Tensor) -> torch.Tensor:
        left.append(x)
        return x.sum()

    def leaves(problem: ek.Problem) -> Any:
        torch.func.grad(keeping)(torch.ones(2, 2))
        problem.model[0]._parameters["weight"] = left[0]  # type: ignore[index]
        return ek.ekfac(tiny())

    trial = Trial(Subject("leaves", leaves), tiny())
    assert len(trial.cases) == 2
    assert "ekfac, parameter '0.weight' object: changed" in trial.changes
    assert "ekfac, parameter '0.weight' storage: gone" in trial.changes


def test_the_reference_changes_nothing() -> None:
    trial = Trial(Subject("reference", ek.ekfac, ek.kfac, ek.exact_fisher), tiny())
    assert len(trial.cases) == 2
    assert trial.changes == []


def test_one_that_changes_the_model_is_judged_by_its_answer(tmp_path: Path) -> None:
    code, found, _ = run(tmp_path, "changes")
    assert code == 0
    assert found["troubles"] == []
