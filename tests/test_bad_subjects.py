"""Whatever a subject does, a run goes on to its end and says what it was."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.cli import main
from ekfac_ref.conformance.check import PROFILES, Profile, Run, TookTooLong, at_most
from ekfac_ref.conformance.lawbook import LAWS
from ekfac_ref.conformance.observation import observe
from ekfac_ref.conformance.state import snapshot
from ekfac_ref.conformance.subject import Subject
from ekfac_ref.conformance.trial import Trial

from . import bad_subjects
from .snapshot import as_users_run_it

TRACE = [law for law in LAWS if law.name == "trace"]


def tiny() -> ek.Problem:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).eval()
    x, y = torch.randn(3, 2), torch.randn(3, 1)
    return ek.Problem(model, [(x[:2], y[:2]), (x[2:], y[2:])], ek.Gaussian())


@pytest.fixture(autouse=True)
def _as_small_as_it_gets(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(PROFILES, "demo", Profile("demo", 4, 0.3))
    observe(tiny())  # torch warms up, which is not the subject's time
    with as_users_run_it():
        yield


def run(tmp_path: Path, name: str, *more: str) -> tuple[int, dict[str, Any], str]:
    """(exit code, the report for programs, the page)."""
    page, data = tmp_path / "out.html", tmp_path / "out.json"
    arguments = ["check", f"tests.bad_subjects:{name}", "--profile", "demo", "--law", "trace"]
    code = main([*arguments, "--report", str(page), "--json", str(data), *more])
    return code, json.loads(data.read_text()), page.read_text()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "2 of 4: it raised ZeroDivisionError: this layer is unknown (bad_subjects.py,"),
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


def test_a_traceback_is_folded_in_the_page(tmp_path: Path) -> None:
    _, found, page = run(tmp_path, "raises")
    assert "<summary>Traceback of the first</summary>" in page
    assert "ZeroDivisionError" in found["troubles"][0]["traceback"]
    assert "print(Trial(subject, problem).cases)" in found["troubles"][0]["problem"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_module:subject", "no_such_module cannot be imported (ModuleNotFoundError"),
        ("tests.bad_subjects:absent", "has no 'absent'"),
        ("tests.bad_subjects", "write it as package.module:name"),
        ("tests.bad_subjects:nothing", "a int cannot be asked for anything"),
        ("mutant:no-such", "no such mutant; choose among ["),
        ("breaks_on_import:subject", "cannot be imported (RuntimeError: [red]no\\x1b wings)"),
        ("exits_on_import:subject", "its module exits when imported (0)"),
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
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", path]) == 3
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
    assert out.count(shown) == 3  # one line of trouble, two that were printed
    assert "\x1b" not in out + page
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    assert found["troubles"][0]["printed"] == bad_subjects.MARKUP + "\n"


def test_a_hanging_one_is_stopped() -> None:
    run = Run(bad_subjects.hangs, Profile("two", 2, 0.0), laws=TRACE, seconds=3.0)
    start = time.monotonic()
    report = run.report()
    assert 3 <= time.monotonic() - start < 20
    assert report.exit_code == 3
    assert [trouble.what for trouble in report.troubles] == ["it took more than 3 s"]
    assert "time.sleep(60)" in report.troubles[0].traceback
    assert [verdict.asked for verdict in report.verdicts] == [1]


def test_the_alarm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TookTooLong, match=r"it took more than 0\.05 s"), at_most(0.05):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_an_interrupt_leaves_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found, page = run(tmp_path, "interrupted")
    assert code == found["exit_code"] == 4
    assert found["complete"] is False
    assert (found["answered"], found["problems"]) == (1, 4)
    assert "Incomplete: the run was interrupted." in page
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "Incomplete: interrupted, 1 of 4 problems (no law was broken)."


def test_coupled_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Conv1d(2, 4, 2, groups=2), nn.Flatten()).eval()
    grouped = ek.Problem(model, [(torch.randn(2, 2, 3), torch.randn(2, 8))], ek.Gaussian())
    problems = [tiny(), grouped, tiny()]
    monkeypatch.setattr("ekfac_ref.conformance.check.draw_problems", lambda *_: problems)
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
    # What the subject got is a copy; the random state is not.
    now = snapshot(problem.model, problem.batches)
    assert {key for key in before if now[key] != before[key]} == {"torch rng"}


def test_the_reference_changes_nothing() -> None:
    trial = Trial(Subject("reference", ek.ekfac, ek.kfac, ek.exact_fisher), tiny())
    assert len(trial.cases) == 2
    assert trial.changes == []


def test_one_that_changes_the_model_is_judged_by_its_answer(tmp_path: Path) -> None:
    code, found, _ = run(tmp_path, "changes")
    assert code == 0
    assert found["troubles"] == []
