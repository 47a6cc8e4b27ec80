"""A library that refuses, and an adapter that has a slip of the pen in it."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import adapted
from ekfac_ref.conformance.findings.verdicts import Blame
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.raised import own_files
from ekfac_ref.conformance.run.run import Run

ONE = ct.Profile("one", 1, 0.0)
HERE = __file__


def slips(kind: str) -> Any:
    """A subject with a slip in this file."""

    def ekfac(problem: ek.Problem) -> Any:
        if kind == "attribute":
            return problem.modell  # type: ignore[attr-defined]
        if kind == "name":
            return eckfac(problem)  # type: ignore[name-defined] # noqa: F821
        if kind == "local":
            if problem.layers == ():
                found = 1
            return found
        if kind == "type":
            return len(3)  # type: ignore[arg-type]
        if kind == "key":
            return {}["weight"]
        if kind == "index":
            return [][0]
        if kind == "import":
            import no_such_module  # noqa: F401
        return 1 / 0

    return ekfac


SLIPS = ("attribute", "name", "local", "type", "key", "index", "import", "zero")


def deep(problem: ek.Problem) -> Any:
    """The library's own TypeError, in a file of its own."""
    return functools.reduce(lambda a, b: a, torch.utils._pytree.tree_map(1, [2]))  # type: ignore


def raising(error: BaseException) -> Any:
    def ekfac(problem: ek.Problem) -> Any:
        raise error

    return ekfac


REFUSALS = [
    *(TypeError("only Linear"), KeyError("conv"), AttributeError("groups"), ImportError("no jax")),
    *(NotImplementedError(), ValueError("no"), RuntimeError("no"), AssertionError("no")),
    ek.ProblemError("no"),
]
FAULTS = [SystemExit(0), MemoryError(), RecursionError(), BaseException("no")]


def trouble(ask: Any, path: str = "") -> Any:
    run = Run(Here(ct.as_subject(ask, "it"), path=path), ONE, laws=[ct.LAWS["trace"]])
    report = run.report()
    assert report.exit_code == 3
    (one,) = [*report.troubles, *report.refused]
    return one


@pytest.mark.parametrize("kind", SLIPS)
def test_a_slip_in_the_adapters_own_file_is_a_crash(kind: str) -> None:
    for ask in (slips(kind), adapted(slips(kind)), functools.partial(slips(kind))):
        found = trouble(ask)
        assert found.blame is Blame.SUBJECT
        assert found.what.startswith("the adapter crashed: ")
        assert "test_crashes.py, line " in found.what


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
def test_what_is_raised_on_purpose_is_a_refusal(error: Exception) -> None:
    found = trouble(raising(error))
    assert found.blame is Blame.REFUSED
    assert found.what.startswith(f"it raised {type(error).__name__}")


@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_an_end_is_no_refusal(error: BaseException) -> None:
    assert trouble(raising(error)).blame is Blame.SUBJECT


def test_a_type_error_deep_in_a_library_is_a_refusal() -> None:
    assert trouble(deep).blame is Blame.REFUSED


LOOKED_AT = {
    "no argument": lambda: 1,
    "no operators": lambda problem: dict.fromkeys(ek.ekfac(problem)),
}


@pytest.mark.parametrize("ask", LOOKED_AT.values(), ids=LOOKED_AT)
def test_an_answer_that_cannot_be_looked_at_is_no_refusal(ask: Any) -> None:
    found = trouble(ask)
    assert found.blame is Blame.SUBJECT
    assert found.what.startswith("it raised ")


def test_an_answer_by_other_keys_is_told_with_its_keys() -> None:
    """That have no order among them, as names have."""
    found = trouble(lambda problem: {1: 2, "a": 3})
    assert found.blame is Blame.SUBJECT
    assert found.what == "ekfac returned [1, 'a'], expected a dict of ['0']"


class Mine:
    """An object with a method, one that is called, and a method of either kind."""

    def ekfac(self, problem: ek.Problem) -> Any:
        return self.absent  # type: ignore[attr-defined]

    @staticmethod
    def still(problem: ek.Problem) -> Any:
        return Mine.absent  # type: ignore[attr-defined]

    def __call__(self, problem: ek.Problem) -> Any:
        return self.absent  # type: ignore[attr-defined]


@pytest.mark.parametrize("ask", [Mine(), Mine().ekfac, Mine.still, ct.Subject("it", Mine())])
def test_the_file_of_whatever_can_be_asked(ask: Any) -> None:
    assert trouble(ask).what.startswith("the adapter crashed: AttributeError")


def test_by_its_path_it_is_the_file_of_the_module(tmp_path: Path) -> None:
    """What that imports of another file is the library's."""
    (tmp_path / "their_library.py").write_text("def ekfac(problem):\n    return problem.absent\n")
    spec = importlib.util.spec_from_file_location("their_library", tmp_path / "their_library.py")
    assert spec
    assert spec.loader
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    assert trouble(library.ekfac).blame is Blame.SUBJECT
    found = trouble(library.ekfac, path=f"{__name__}:anything")
    assert (found.blame, "their_library.py" in found.what) == (Blame.REFUSED, True)
    assert own_files(ct.Subject("it", library.ekfac), f"{__name__}:it") == {HERE}
