"""The arrows of the house, from folder to folder, and what keeps the halves and the judge apart."""

import ast
from functools import cache
from pathlib import Path

import pytest

import ekfac_ref.optim

PACKAGE = Path(ekfac_ref.__file__).parent
SUBJECTS = {"errors", "question", "model", "matrix"}
TRUTH = {"conformance.problems", "conformance.truth", "conformance.subjects"}
TRUTH |= {"conformance.declared", "conformance.training"}
# A folder: what it may import beside itself. A file at the top is a folder of its own.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "notation": set(),
    "extras": set(),
    "question": {"errors"},
    "model": {"errors", "question"},
    "matrix": {"errors", "question"},
    "losses": {"errors", "question", "model"},
    "passes": {"errors", "question", "model", "matrix"},
    "blocks": {"errors", "question", "model", "matrix", "passes"},
    "sharded": {"errors", "question", "model", "matrix", "losses", "passes"},
    "optim": {"errors", "question", "model", "matrix", "losses"},
    "conformance.problems": {"errors", "question", "model"},
    "conformance.truth": {"errors", "question", "model", "matrix", "conformance.problems"},
    "conformance.declared": {"errors"},
    "conformance.training": {"question", "model", "matrix", "conformance.declared"}
    | {"conformance.truth"},
    "conformance.subjects": SUBJECTS | TRUTH - {"conformance.subjects"},
    "conformance.adapter": SUBJECTS | {"losses", "conformance.problems", "conformance.subjects"},
    "conformance.laws": SUBJECTS | TRUTH,
    "conformance.mutants": SUBJECTS | TRUTH,
    "conformance.diagnosis": {"question", "model", "conformance.laws", "conformance.mutants"}
    | {"conformance.adapter"}
    | TRUTH,
    "conformance.findings": {"errors", "conformance.laws", "conformance.problems"},
    "conformance.run": {"errors", "question", "conformance.laws", "conformance.mutants"}
    | {"conformance.diagnosis", "conformance.findings"}
    | TRUTH,
    "conformance.own_model": {"errors", "question", "conformance.laws", "conformance.findings"}
    | {"model", "matrix", "conformance.run", "conformance.adapter"}
    | TRUTH,
    "conformance.reports": {"conformance.laws", "conformance.mutants", "conformance.run"}
    | {"conformance.diagnosis", "conformance.findings"}
    | TRUTH,
    "conformance.vectors": {"question", "conformance.truth"},
    "conformance.offline": SUBJECTS - {"matrix"}
    | {
        f"conformance.{room}"
        for room in ("adapter", "diagnosis", "findings", "laws", "run", "vectors")
    }
    | TRUTH,
    "conformance.process": {"errors", "conformance.laws", "conformance.run"}
    | {"conformance.own_model"}
    | {"conformance.reports", "conformance.findings"}
    | TRUTH,
}
# What is at the top: whoever comes from outside comes in here, and nobody inside does.
FACES = {"", "__main__", "cli", "commands", "conformance", "examples"}
ACCUSED = {"", "blocks", "passes", "optim", "matrix.kfac", "matrix.ekfac"}


@cache
def modules() -> dict[str, Path]:
    """{dotted name within the package: file}; a package's own is that of its ``__init__``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(source: str, known: set[str]) -> set[str]:
    """The modules among those known that a file imports, whichever way it says so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole if whole <= {f"ekfac_ref.{k}" for k in known} else {str(node.module)}
            names |= whole & {f"ekfac_ref.{k}" for k in known}
    inside = {n.removeprefix("ekfac_ref").lstrip(".") for n in names if n.startswith("ekfac_ref")}
    return inside & known


def folder(module: str) -> str:
    """The room of a module; all of ``conformance.mutants`` is one."""
    if module in FACES or module.startswith(("examples", "commands")):
        return module.partition(".")[0]
    inside = [room for room in MAY_IMPORT if module == room or module.startswith(f"{room}.")]
    return inside[0] if inside else module


@cache
def arrows() -> dict[str, set[str]]:
    files = modules()
    return {name: imported(path.read_text(), set(files)) for name, path in files.items()}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_folder_imports_only_what_it_may(room: str) -> None:
    files = [name for name in arrows() if folder(name) == room]
    assert files
    for name in files:
        beyond = {folder(module) for module in arrows()[name]} - {room}
        assert beyond <= MAY_IMPORT[room], name


def test_every_file_is_in_a_room() -> None:
    rooms = {folder(name) for name in modules()}
    assert rooms == {*MAY_IMPORT, *FACES, "conformance.for_pytest"}


def test_no_room_is_reached_from_one_that_it_may_import() -> None:
    def reached(room: str) -> set[str]:
        return {room}.union(*(reached(one) for one in MAY_IMPORT[room]))

    for room, others in MAY_IMPORT.items():
        assert room not in set().union(*map(reached, others)), room


def test_the_two_halves_do_not_meet() -> None:
    assert "model" not in MAY_IMPORT["matrix"]
    assert "matrix" not in MAY_IMPORT["model"]


def test_a_judge_does_not_know_the_accused() -> None:
    kit = [name for name in modules() if name.startswith("conformance")]
    assert len(kit) > 50
    for name in kit:
        assert not arrows()[name] & ACCUSED, name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import ekfac_ref as ek", {""}),
        ("import ekfac_ref.matrix.kfac", {"matrix.kfac"}),
        ("from ekfac_ref import kfac", {""}),
        ("from ekfac_ref.matrix import kfac", {"matrix.kfac"}),
        ("from ekfac_ref.matrix.kfac import Stack", {"matrix.kfac"}),
        ("def late():\n    from ekfac_ref import blocks", {"blocks"}),
        ("import torch\nfrom ekfac_reference import kfac", set()),
    ],
)
def test_every_way_to_import_is_seen(source: str, found: set[str]) -> None:
    assert imported(source, set(modules())) == found


def test_public_names_of_the_optimizer() -> None:
    assert ekfac_ref.optim.__all__ == ["EKFAC", "KFAC", "EKFACPreconditioner", "KFACPreconditioner"]


def test_files_are_short() -> None:
    """A file can be read beside a paragraph; the core in an hour or two."""
    for name, path in modules().items():
        assert len(path.read_text().splitlines()) <= 260, name
    core = ("gradients", "taps", "linear_form", "fisher", "kfac", "ekfac", "operators")
    files = [path for path in modules().values() if path.stem in core]
    assert sum(len(path.read_text().splitlines()) for path in files) < 820
