"""Mistakes in a problem of the user's own are told as that: not the subject's, not the kit's."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.cli import main
from ekfac_ref.conformance.own_model import trial
from ekfac_ref.conformance.own_model.load_problem import load_problem
from ekfac_ref.conformance.process.own_apart import OwnApart
from ekfac_ref.question.problem import Problem


def posed(model: nn.Module | None = None, x: Tensor | None = None, **more: Any) -> Problem:
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    data = (torch.randn(4, 5).double() if x is None else x), torch.tensor([0, 1, 2, 0])
    return Problem(**{"batches": [data], "likelihood": ek.Categorical(), **more, "model": model})


class Calls(nn.Module):
    """A Linear layer after whatever is to happen in a forward."""

    def __init__(self, before: Callable[[Tensor], Any], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.before, self.linear = before, nn.Linear(5, 3, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        changed = self.before(x)
        return self.linear(x if changed is None else changed)


class Words(nn.Module):
    """More of them than a matrix on them fits anywhere; one for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(400_000, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x)[:, 0]


class Broken:
    """Data that cannot be read to its end."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __iter__(self) -> Iterator[Any]:
        yield torch.randn(4, 5).double(), torch.tensor([0, 1, 2, 0])
        raise self.error


class Once:
    """Data that an earlier pass has used up."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def dropout() -> Problem:
    return posed(nn.Sequential(nn.Linear(5, 6), nn.Dropout(), nn.Linear(6, 3)).double())


def no_sample_has_a_nine(x: Tensor) -> None:
    if len(x) == 4 and bool((x == 9).any()):
        raise ValueError("a nine")


def nine() -> Problem:
    x = torch.randn(4, 5).double()
    x[3, 0] = 9.0
    return posed(Calls(no_sample_has_a_nine), x)


def raises(error: BaseException) -> Callable[[Any], Any]:
    def fails(x: Any) -> Any:
        raise error

    return fails


def uncopied() -> Problem:
    model = Calls(lambda x: None)
    model.__deepcopy__ = raises(TypeError("no copies"))  # type: ignore[assignment]
    return posed(model)


MISTAKES: dict[str, tuple[Callable[[], Problem], str]] = {
    "dropout": (dropout, "a Dropout in train mode .* call model.eval"),
    "labels": (
        lambda: posed(batches=[(torch.randn(2, 5).double(), torch.tensor([0, 7]))]),
        "label 7 is out of range",
    ),
    "width": (lambda: posed(x=torch.randn(4, 7).double()), "cannot take its input"),
    "dtype": (lambda: posed(x=torch.randn(4, 5)), r"convert the data with .to\(torch.float64"),
    "data": (lambda: posed(batches=Broken(OSError("disk gone"))), "raised OSError: disk gone"),
    "exit": (lambda: posed(batches=Broken(SystemExit(4))), "raised SystemExit: 4"),
    "used up": (lambda: posed(batches=Once()), "there are none"),
    "forward": (lambda: posed(Calls(raises(KeyError("k")))), "its forward failed on one sample"),
    "one batch": (nine, r"on the batch at sample 0, raised ValueError: a nine \(test_own"),
    "one dtype": (
        lambda: posed(Calls(Tensor.float, torch.float32), torch.randn(4, 5)),
        "let its forward follow the dtype of its weights",
    ),
    "other dtype": (lambda: posed(Calls(Tensor.double)), "where rounding is measured"),
    "no copy": (uncopied, r"copy.deepcopy\(model\) raised TypeError: no copies"),
    "lazy": (lambda: posed(nn.Sequential(nn.LazyLinear(3))), "it has no shape yet"),
    "room": (
        lambda: posed(nn.Sequential(Words(), nn.Linear(2, 3)), torch.randint(9, (4, 1))),
        r"what is right takes at least .* GB .* those of '0.table', d_in = 400,000 and d_out = 2",
    ),
    "memory": (lambda: posed(Calls(raises(MemoryError("much")))), "it does not suffice"),
    "mask": (lambda: posed(mask=lambda x: torch.ones(9).bool()), "it is to return booleans"),
    "mask raises": (lambda: posed(mask=raises(OSError("no"))), "or their mask, raised OSError"),
    "output": (lambda: posed(output=lambda o: o.logits), "output: it failed"),
    "likelihood": (lambda: posed(likelihood=ek.Gaussian()), "give the targets exactly that shape"),
    "no batches": (lambda: posed(batches=[]), "there are none"),
    "no samples": (
        lambda: posed(batches=[(torch.zeros(0, 5).double(), torch.zeros(0).long())]),
        "Drop empty batches",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_from_python_it_is_an_exception_that_says_what_is_wrong(name: str) -> None:
    make, says = MISTAKES[name]
    with pytest.raises(ek.ProblemError, match=says):
        ct.check_on(ek.ekfac, make(), laws=["trace"])


def test_what_the_advice_on_dtypes_says_helps() -> None:
    follows = posed(Calls(lambda x: x.to(torch.float32)).float(), torch.randn(4, 5))
    with pytest.raises(ek.ProblemError, match="follow the dtype of its weights"):
        ct.check_on(ek.ekfac, follows)
    followed = posed(Calls(lambda x: None, torch.float32), torch.randn(4, 5))
    assert ct.check_on(ek.ekfac, followed).exit_code == 0


def test_what_the_advice_on_room_says_helps() -> None:
    words = nn.Sequential(Words(), nn.Linear(2, 3))
    problem = posed(words, torch.randint(9, (4, 1)), layers=("1",))
    assert ct.check_on(ek.ekfac, problem).exit_code == 0


def test_the_subject_s_and_the_kit_s_failures_are_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise IndexError("a slip")

    assert ct.check_on(raises(ek.ProblemError("none of mine")), posed()).exit_code == 3
    with pytest.raises(ek.ProblemError, match="judged by ekfac, kfac, precondition"):
        ct.check_on(ct.Subject("other", exact_fisher=ek.exact_fisher), posed())
    monkeypatch.setattr(trial, "measure", fails)
    report = ct.check_on(ek.ekfac, posed())
    assert report.exit_code == 6
    assert "the kit itself raised IndexError: a slip" in report.troubles[0].what


def test_a_failure_of_the_kit_at_the_start_is_none_of_the_problem_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the process of a subject tells it; the command has exit code 6 for what gets there."""
    apart = OwnApart("ekfac_ref:ekfac")
    plain = {"trouble": ["the kit itself raised IndexError", "a traceback", "the kit"]}
    monkeypatch.setattr(apart, "_asked", lambda request, read, seconds: (read(plain), None))
    with contextlib.closing(apart), pytest.raises(RuntimeError, match="IndexError\na traceback"):
        apart.begin("mine:problem", 0)


MODULE = """
import ekfac_ref as ek
from tests.kit.test_own_mistakes import dropout, posed, nine


def ends():
    raise SystemExit(5)


def nothing():
    pass


def used_up():
    return posed(batches=iter([]))


def no_layer():
    return posed(layers="0")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mistaken_things.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], problem: str, *more: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command."""
    code = main(["check", "ekfac_ref:ekfac", "--problem", f"mistaken_things:{problem}", *more])
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.mark.parametrize("where", [(), ("--in-process",)], ids=["apart", "here"])
def test_the_command_says_it_in_a_line(
    where: tuple[str, ...], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = told(capsys, "dropout", "--json", "o.json", *where)
    assert (code, out) == (2, "")
    begins = "ekfac-ref: problem 'mistaken_things:dropout': layer '1': a Dropout in train mode"
    (line,) = (line for line in err.splitlines() if "ekfac-ref:" in line)
    assert line.startswith(begins)
    assert "Traceback" not in err
    found = json.loads((folder / "o.json").read_text())
    assert found["exit_code"] == 2
    assert found["troubles"][0]["blame"] == "the problem"


def test_what_a_function_does_is_the_problem_s(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, says in {
        "ends": "it raised SystemExit: 5",
        "nothing": "a NoneType; make it",
        "used_up": "cannot be iterated again and again",
        "no_layer": "things:no_layer': layers: '0' is one string; pass a tuple of names, ('0',).\n",
    }.items():
        code, out, err = told(capsys, name, "--in-process")
        assert (code, out) == (2, "")
        assert says in err
    (folder / "exits_here.py").write_text("raise SystemExit(5)")
    with pytest.raises(ek.ProblemError, match="its module raised SystemExit: 5"):
        load_problem("exits_here:problem")


def test_several_subjects_have_one_mistaken_problem(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subjects = ("ekfac_ref:ekfac", "ekfac_ref.examples:hooks")
    code = main(["check", *subjects, "--problem", "mistaken_things:nine", "--in-process"])
    found = capsys.readouterr()
    assert (code, found.out) == (2, "")
    assert found.err.count("raised ValueError: a nine") == 1
