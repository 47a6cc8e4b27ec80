"""A subject may do what it likes to its own process: the command's, and its report, stay whole."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ekfac_ref.cli import main
from ekfac_ref.conformance.findings.verdicts import Blame
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.process import apart
from ekfac_ref.conformance.process.apart import Apart
from ekfac_ref.conformance.run.profile import PROFILES, Profile
from ekfac_ref.conformance.run.run import Run
from tests.support.hostile import HOSTILE, ROOT, written

TRACE = [LAWS["trace"]]
# One of each kind; `make hostile` has all of them.
HERE = ("exits-0", "replaces-limit", "writes-everywhere")


def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    (folder / "hostile_here.py").write_text(source)
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("name", HERE)
def test_the_command_ends_as_it_should(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``make hostile`` has them by the real command, all but the start of the parent."""
    hostile = next(one for one in HOSTILE if one.name == name)
    in_folder(tmp_path, monkeypatch, hostile.source)
    asked = ["check", "hostile_here:ekfac", "--profile", "demo", "--law", "trace"]
    assert main([*asked, "--seconds", "3", "--json", "out.json"]) == hostile.code
    captured = capsys.readouterr()
    assert hostile.says in captured.out + captured.err
    assert json.loads((tmp_path / "out.json").read_text())["exit_code"] == hostile.code
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".json") in (
        ["hostile_here.py"],
        ["__pycache__", "hostile_here.py"],
    )


# Every second question does something; a file says how often, for a process does not remember.
DOZEN = """
import ctypes, gc, os
import torch
import ekfac_ref as ek

ACTS = [
    lambda: ctypes.string_at(0),
    lambda: ctypes.PyDLL(None).sleep(3600),  # lets nothing else of Python's go on
    lambda: setattr(torch, "equal", lambda *a: True),
]

def ekfac(problem):
    assert gc.isenabled()  # as it was off while the kit was imported
    with open("times", "a+") as file:
        file.write("x")
        file.seek(0)
        times = len(file.read())
    if times % 4 == 2:  # the one after that is a repetition
        print("now", times // 4)
        ACTS[times // 4]()
    return ek.ekfac(problem)
"""


def test_it_is_started_again_and_the_next_problem_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked, lost, asked again about the last one that it answered, asked about the next."""
    in_folder(tmp_path, monkeypatch, DOZEN)
    times = tmp_path / "times"

    def limit(seconds: float) -> float:
        """Little for the question that is never answered; a busy machine takes long for others."""
        return 8.0 if times.exists() and times.read_text() == "x" * 5 else 2 * seconds

    monkeypatch.setattr(apart, "_limit", limit)
    examiner = Apart("hostile_here:ekfac", 120.0)
    try:
        report = Run(examiner, Profile("nine", 9, 0.0), laws=TRACE).report()
    finally:
        examiner.close()
    assert [trouble.what for trouble in report.troubles] == [
        "its process was ended by SIGSEGV",
        "it took more than 8 s and could not be interrupted",
        "it replaced torch.equal, which the kit computes with: nothing that is said afterwards "
        "can be trusted",
    ]
    assert {trouble.blame for trouble in report.troubles} == {Blame.LOST}
    assert [trouble.printed for trouble in report.troubles] == [f"now {n}\n" for n in range(3)]
    assert "Segmentation fault" in report.troubles[0].traceback
    assert "hostile_here.py" in report.troubles[1].traceback
    (verdict,) = report.verdicts
    assert (verdict.status.value, verdict.asked, report.asked) == ("pass", 6, 9)
    assert (report.exit_code, report.apart, report.given_up) == (3, True, False)
    assert not Path(examiner._folder.name).exists()


SLOW = """
import time
import ekfac_ref as ek

def ekfac(problem):
    open("asked", "a").write("x")
    time.sleep(0.3)
    return ek.ekfac(problem)
"""


def test_after_an_interrupt_it_answers_the_next_question_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder(tmp_path, monkeypatch, SLOW)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.closing(Apart("hostile_here:ekfac", 30.0)) as examiner:
        one, other = examiner.draw(2, 0).problems
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(KeyboardInterrupt):
                examiner.ask(one, TRACE)
        finally:
            signal.signal(signal.SIGALRM, before)
        found = examiner.ask(other, [LAWS["psd"]])
    assert found.trouble is None
    assert [said.law for said in found.said] == ["psd"]


def command(folder: Path, source: str, *more: str, **streams: Any) -> "subprocess.Popen[str]":
    """The real command, while it runs."""
    (folder / "slow.py").write_text(source)
    asked = ["check", "slow:ekfac", "--profile", "demo", "--law", "trace", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "ekfac_ref.cli", *asked],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams,
    )


def test_signals_end_the_run_and_not_its_report(tmp_path: Path) -> None:
    """One command for each, at the same time."""
    signals = (signal.SIGTERM, signal.SIGKILL)
    running = {}
    for number in signals:
        (folder := tmp_path / number.name).mkdir()
        running[number] = command(folder, SLOW, "--json", "out.json"), folder
    for number, (process, folder) in running.items():
        end = time.monotonic() + 120
        while not ((folder / "asked").exists() and (folder / "asked").stat().st_size > 1):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
    for number, (process, folder) in running.items():
        out, err = process.communicate(timeout=60)
        found = json.loads((folder / "out.json").read_text())
        assert (found["complete"], found["exit_code"]) == (False, 4), number
        if number is not signal.SIGKILL:  # then nobody is left to print, and the file has it
            assert process.returncode == 4, (number, err)
            assert out.splitlines()[-1].startswith("Incomplete: interrupted, "), number
            assert 1 <= found["asked"] < 12


def test_nobody_reads_the_report(tmp_path: Path) -> None:
    """That is no verdict; a report that is on a file is there all the same."""
    read, write = os.pipe()
    os.close(read)
    quick = SLOW.replace("0.3", "0.0")
    piped = command(tmp_path, quick, "--json", "out.json", stdout=write)
    os.close(write)
    err = piped.communicate(timeout=120)[1]
    assert piped.returncode == 141
    assert "the report could not be printed ([Errno 32] Broken pipe)" in err
    assert json.loads((tmp_path / "out.json").read_text())["exit_code"] == 0


def test_there_is_no_room_for_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["laws"]) == 141
    says = "the report could not be printed ([Errno 28] No space left on device)"
    assert says in capsys.readouterr().err


@pytest.fixture
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "demo", Profile("demo", 2, 0.1))


ASKED = ["check", "mutant:twice", "--profile", "demo", "--law", "trace", "--in-process"]


@pytest.mark.usefixtures("_tiny")
def test_a_file_that_cannot_be_written_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "ekfac_ref.conformance.run.run.Run.diagnosed",
        lambda self, report: gone.rmdir() or report,
    )
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.setattr("ekfac_ref.commands.report_files.ReportFiles.now_and_then", lambda *a: None)
    monkeypatch.setattr(
        "ekfac_ref.commands.report_files.ReportFiles._written", _written_later(gone)
    )
    for path in (gone / "out.json", Path("/dev/full")):
        gone.mkdir(exist_ok=True)
        assert main([*ASKED, "--json", str(path)]) == 1
        captured = capsys.readouterr()
        assert captured.out.splitlines()[-1] == "It does not conform (broken: trace)."
        assert f"{path} cannot be written" in captured.err


def _written_later(folder: Path) -> Any:
    """Only once the folder has gone; before, there is nothing in it."""
    from ekfac_ref.commands.report_files import ReportFiles

    written = ReportFiles._written
    return lambda self, path, text: "" if folder.exists() else written(self, path, text)


@pytest.mark.usefixtures("_tiny")
def test_two_reports_are_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "later").symlink_to("not_yet")
    os.link("there", "hard")
    same = [("there", "there"), ("./there", str(tmp_path / "there")), ("link", "there")]
    for one, other in [*same, ("hard", "there"), ("later", "not_yet"), ("new", "./new")]:
        assert main([*ASKED, "--report", one, "--json", other]) == 2
        assert "--report and --json are one file" in capsys.readouterr().err
    assert (tmp_path / "there").read_text() == ""


@pytest.mark.usefixtures("_tiny")
def test_a_report_of_an_earlier_run_does_not_stay(tmp_path: Path) -> None:
    """A subject that is not there any more would seem to conform."""
    data = tmp_path / "out.json"
    assert main(["check", "mutant:no-such", "--json", str(data)]) == 3
    assert json.loads(data.read_text())["exit_code"] == 3


@pytest.mark.usefixtures("_tiny")
def test_files_are_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes = "import os\nimport ekfac_ref\nos.chdir('/')\nekfac = ekfac_ref.ekfac\n"
    (tmp_path / "goes_away.py").write_text(goes)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = ["check", "goes_away:ekfac", "--profile", "demo", "--law", "trace", "--in-process"]
    assert main([*asked, "--json", "out.json"]) == 0
    assert (tmp_path / "out.json").exists()


def test_the_page_has_them_all() -> None:
    rows = written()
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) == len(rows) >= 60
    for hostile, row in zip(HOSTILE, rows, strict=True):
        assert row.startswith(f"| {hostile.does} | {hostile.code} | "), "run make hostile"
        assert "(not said)" not in row
