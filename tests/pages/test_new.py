"""What ``ekfac-ref new`` writes refuses, and conforms once it is filled in; typing mistakes."""

import sys
from pathlib import Path

import pytest

from ekfac_ref.cli import main

REFUSES = 'raise NotImplementedError("`answer` of mine.py is to be filled in")'
FILLED_IN = """return {
        name: Eigen(one.Q_B, one.Q_A, one.eigenvalues) for name, one in ek.ekfac(problem).items()
    }"""


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    assert main(["new", str(path)]) == 0
    return path


def checked(adapter: Path, monkeypatch: pytest.MonkeyPatch, *laws: str) -> int:
    """The exit code, the adapter imported as it is now."""
    monkeypatch.syspath_prepend(str(adapter.parent))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    asked = [word for law in laws for word in ("--law", law)]
    return main(["check", "mine:mine", "--profile", "demo", "--in-process", *asked])


def test_it_says_that_it_is_to_be_filled_in(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(adapter, monkeypatch, "trace") == 3
    assert "`answer` of mine.py is to be filled in (mine.py, line" in capsys.readouterr().out


def test_filled_in_it_conforms(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = adapter.read_text()
    assert REFUSES in source
    adapter.write_text(source.replace(REFUSES, FILLED_IN))
    assert checked(adapter, monkeypatch, "trace", "eigenvalues") == 0


@pytest.mark.parametrize("name", ["mine.txt", "my-adapter.py", "2.py"])
def test_a_name_that_cannot_be_imported(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", str(tmp_path / name)]) == 2
    assert "give a name such as my_adapter.py" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_nothing_is_written_over(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter.write_text("kept")
    assert main(["new", str(adapter)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert adapter.read_text() == "kept"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["chek"], "check"),
        (["laws", "trac"], "trace"),
        (["laws", "own answer"], "own answers"),
        (["mutants", "half-lamda"], "half-lambda"),
        (["check", "mutant:half-lamda", "--in-process"], "half-lambda"),
        (["check", "ekfac_ref.examples.hooks:hoks", "--in-process"], "hooks"),
    ],
)
def test_did_you_mean(words: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(words))
    assert ended.value.code in (2, 3)
    assert f"did you mean {meant!r}? choose among [" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("ekfac-ref ")
