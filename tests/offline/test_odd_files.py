"""Files that are no answers, though numpy would make numbers of them, or wait for them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ekfac_ref import cli
from ekfac_ref.conformance.offline import contents
from tests.offline.test_judge import judged

FOLDER = "questions/0001-plain"
Change = Callable[[Path], None]


def with_json(**more: object) -> Change:
    """Other arrays, or more, in the answer."""

    def change(folder: Path) -> None:
        file = folder / "answer.json"
        told = json.loads(file.read_text())
        name = next(name for name in told if name.endswith("/ekfac/0/eigenvalues"))
        named = {name if key == "eigenvalues" else key: x for key, x in more.items()}
        file.write_text(json.dumps(told | named))

    return change


def with_arrays(of: Callable[[np.ndarray], np.ndarray]) -> Change:
    """The answer as npz, its arrays changed."""

    def change(folder: Path) -> None:
        told = json.loads((folder / "answer.json").read_text())
        (folder / "answer.json").unlink()
        key = np.frombuffer(told.pop("key").encode(), dtype=np.uint8)
        arrays = {name: of(np.array(x)) for name, x in told.items()}
        np.savez_compressed(folder / "answer.npz", key=key, **arrays)

    return change


def a_pipe(folder: Path) -> None:
    (folder / "answer.json").unlink()
    os.mkfifo(folder / "answer.json")


def without_end(folder: Path) -> None:
    (folder / "answer.json").unlink()
    (folder / "answer.json").symlink_to("/dev/zero")


def structured(x: np.ndarray) -> np.ndarray:
    return np.zeros(x.shape, [("re", float)])


ODD: dict[str, tuple[Change, str]] = {
    "complex": (with_arrays(lambda x: x + 1000j), "is an array of complex128, expected real"),
    "datetime": (with_arrays(lambda x: x.astype("datetime64[s]")), "is an array of datetime64[s]"),
    "structured": (with_arrays(structured), "is an array of [('re', '<f8')]"),
    "texts": (with_arrays(lambda x: x.astype(str)), "is an array of <U"),
    "booleans": (with_arrays(lambda x: x > 0), "is an array of bool"),
    "a bomb": (with_arrays(lambda x: np.zeros(50000)), "bytes of arrays, expected at most 300000"),
    "large": (with_json(more=[0.5] * 100000), "bytes, expected at most 300000"),
    "an integer": (with_json(eigenvalues=[[10**400]]), "integer in it that is too large"),
    "a text": (with_json(eigenvalues=[["1.5"]]), 'has "1.5" in it, expected numbers'),
    "true": (with_json(eigenvalues=[[True]]), "has true in it, expected numbers"),
    "null": (with_json(eigenvalues=None), "has null in it, expected numbers"),
    "a dict": (with_json(eigenvalues={"a": 1}), 'has {"a": 1} in it, expected numbers'),
    "a layer": (with_json(**{"foo/bar": [1.0]}), "'foo/bar': there is no layer 'foo'"),
    "a way": (with_json(**{"bilinear/ekfak/0/Q_B": [1.0]}), "'bilinear/ekfak/0/Q_B' is no name"),
    "no way": (with_json(foo=[1.0]), "'foo': there is no layer 'foo'"),
    "a pipe": (a_pipe, "answer.json cannot be read (OSError: it is no regular file"),
    "without end": (without_end, "answer.json cannot be read (OSError: it is no regular file"),
}


@pytest.mark.parametrize(("change", "what"), ODD.values(), ids=ODD)
def test_it_costs_one_verdict_and_is_told(
    changed: Path,
    change: Change,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "300000" in what:
        monkeypatch.setattr(contents, "MOST_BYTES", 300000)
    change(changed / FOLDER)
    code, said = judged(changed, capsys, "--law", "trace")
    assert code == 3, said
    assert f"1 of 6: {Path(FOLDER).name}/answer." in said
    assert what in said
    assert "│ trace │ pass │ 5 │" in said


def test_texts_and_integers_that_stand_for_numbers_are_read(tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text('{"key": "k", "0/diagonal": [[1, "-Infinity", 0.5]]}')
    key, found = contents.of_json(tmp_path / "answer.json")
    assert (key, found["0/diagonal"].tolist()) == ("k", [[1.0, -np.inf, 0.5]])


def test_who_refuses_all_has_given_too_few_answers(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in changed.glob("questions/*/answer.json"):
        file.unlink()
        (file.parent / "refused.txt").write_text("not today")
    code, said = judged(changed, capsys)
    assert code == 3
    assert "its refused.txt says: not today" in said


def test_a_pipe_in_place_of_what_stands_beside_the_answers_is_told(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (changed / "declared.json").unlink()
    os.mkfifo(changed / "declared.json")
    assert cli.main(["judge", str(changed)]) == 2
    assert "it is no regular file" in capsys.readouterr().err
