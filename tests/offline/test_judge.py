"""Answers in files on trial: right ones, wrong ones, and files that are no answers."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ekfac_ref import cli
from ekfac_ref.conformance.offline.export import export
from tests.offline.conftest import EXAMPLES

FEW = ("--law", "trace", "--law", "nan")


def judged(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    code = cli.main(["judge", str(folder), *options])
    return code, " ".join(capsys.readouterr().out.split())


def test_numpy_conforms(few_answers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = judged(few_answers, capsys)
    assert code == 5, said  # for no problem is one to ask padding of
    assert "Inconclusive: no problem was one to ask exactness, padding of" in said
    assert "numpy, profile files" in said
    assert "not asked: no memory, leaves alone, after an exception" in said
    for law in ("solve 1", "diagonal", "exact block", "factors", "eigenvalues", "recut"):
        assert f"│ {law} │ pass │" in said, law


def test_numpy_conforms_on_all_kinds(
    numpy_answers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laws = ("comparison", "eigenvalues", "order")
    code, said = judged(numpy_answers, capsys, *(word for law in laws for word in ("--law", law)))
    assert code == 0, said
    assert "It conforms: 3 laws hold, on 12 problems." in said


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler, cc, here")
def test_c_conforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, program = EXAMPLES / "networks.c", tmp_path / "networks"
    assert len(source.read_text().splitlines()) < 200
    strict = ["-std=c99", "-pedantic", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *strict, "-o", str(program), str(source), "-lm"], check=True)
    folder = tmp_path / "linear"
    export(folder, 9, 0, ["Linear"])
    subprocess.run([str(program), str(folder)], check=True)
    told = {"name": "C99", "masks": False, "declines": ["mask", "outputs at positions"]}
    (folder / "declared.json").write_text(json.dumps(told))
    laws = ("trace", "comparison", "eigenvalues", "kfac", "recut", "doubled", "nan", "batch norm")
    code, said = judged(folder, capsys, *(word for law in laws for word in ("--law", law)))
    assert code == 0, said
    assert "It conforms: 8 laws hold" in said


def test_a_mistake_has_its_name(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in changed.glob("questions/*/answer.json"):
        answer = json.loads(path.read_text())
        for name in answer:
            if name.endswith("/eigenvalues"):
                answer[name] = (np.array(answer[name]) / 2).tolist()
        path.write_text(
            json.dumps({n: x for n, x in answer.items() if "/ekfac/" in n or n == "key"})
        )
    code, said = judged(changed, capsys, *FEW)
    assert code == 1
    assert "broken: trace" in said
    assert "Diagnosis: It is right up to a factor: times 1 / 2" in said
    assert re.search(r"# questions/000\d-plain import torch", said)


def test_a_missing_a_truncated_and_a_foreign_file_cost_one_verdict_each(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [changed / "questions" / f"{number:04}-plain/answer.json" for number in range(6)]
    plain[0].unlink()
    plain[1].write_bytes(plain[1].read_bytes()[:-9])
    shutil.copy(plain[3], plain[2])
    (plain[3].parent / "refused.txt").write_text("not today")
    (plain[4].parent / "question.json").write_text("{}")
    code, said = judged(changed, capsys, *FEW)
    assert code == 3
    assert "No verdict: 5 of 6 problems got no answer" in said
    for what in (
        "0000-plain/answer.json is missing; write it",
        "0001-plain/answer.json cannot be read",
        "0002-plain/answer.json answers the question",
        "0003-plain/answer.json: there is refused.txt beside it",
        "0004-plain/question.json is not as it was exported",
    ):
        assert what in said


def test_a_change_without_an_answer_costs_its_problem(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (changed / "questions/0005-recut/answer.json").write_text("[1]")
    code, said = judged(changed, capsys, "--law", "nan")
    assert code == 3
    assert "1 of 6: 0005-recut/answer.json cannot be read" in said
    assert "│ nan │ pass │ 5 │" in said


def test_arrays_do_as_well_as_texts(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in changed.glob("questions/*/answer.json"):
        answer = json.loads(path.read_text())
        key = np.frombuffer(answer.pop("key").encode(), dtype=np.uint8)
        arrays = {name: np.array(x) for name, x in answer.items()}
        np.savez(path.with_name("answer.npz"), key=key, **arrays)
        path.unlink()
    assert judged(changed, capsys, *FEW)[0] == 0
    path = changed / "questions/0001-plain/answer.npz"
    np.savez(path, key=np.array(["x", None], dtype=object))
    code, said = judged(changed, capsys, *FEW)
    assert code == 3
    assert (
        "0001-plain/answer.npz cannot be read (ValueError: Object arrays cannot be loaded" in said
    )


def test_refusals_are_counted_and_may_be_declared(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in changed.glob("questions/0001-*/question.json"):
        if '"op":"bilinear"' in path.read_text() and (path.parent / "answer.json").exists():
            (path.parent / "answer.json").unlink()
            (path.parent / "refused.txt").write_text("no bilinear layers\n")
    code, said = judged(changed, capsys, *FEW)
    assert code == 3
    assert "its refused.txt says: no bilinear layers" in said
    (changed / "declared.json").write_text('{"name": "ours", "declines": ["Bilinear"]}')
    code, said = judged(changed, capsys, *FEW)
    assert code == 0, said


@pytest.mark.parametrize(
    ("name", "contents", "what"),
    [
        ("manifest.json", "{", "no manifest of questions of version 1"),
        ("declared.json", '{"declines": ["Linar"]}', "did you mean 'Linear'?"),
        ("declared.json", '{"name": 1}', "name is 1; write a str"),
        ("declared.json", '{"bias": "apart"}', "there is no 'apart'"),
        ("declared.json", '{"masked": true}', "did you mean 'masks'?"),
        ("declared.json", "[]", "write an object with"),
    ],
)
def test_wrong_usage_is_told(
    changed: Path, name: str, contents: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (changed / name).write_text(contents)
    assert cli.main(["judge", str(changed)]) == 2
    assert what in capsys.readouterr().err


def test_a_folder_without_answers_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path, 6, 0)
    assert cli.main(["judge", str(tmp_path)]) == 2
    assert "answers: there is none in any file" in capsys.readouterr().err
    assert cli.main(["judge", str(tmp_path), "--law", "no memory"]) == 2
    assert "of files, no memory cannot be asked" in capsys.readouterr().err


def test_reports_are_those_of_check(
    changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, table = tmp_path / "page.html", tmp_path / "report.json"
    code, _ = judged(changed, capsys, *FEW, "--report", str(page), "--json", str(table))
    assert code == 0
    told = json.loads(table.read_text())
    assert told["exit_code"] == 0
    assert told["rerun"] == f"ekfac-ref judge {changed} --law trace --law nan"
    assert "numpy" in page.read_text()
