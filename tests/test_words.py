"""What the package says of itself: no name twice, docstrings that say something, short folders."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ekfac_ref

PACKAGE = Path(ekfac_ref.__file__).parent
STUDIES = PACKAGE.parent / "studies"
LINES, FILES, WORDS = 37_650, 14, 4  # of the package; in a folder; in a docstring, or fewer
SOMEBODY = re.compile(r"\(asked: |\bwanted\b")  # who is not in the room


@cache
def trees(folder: Path) -> dict[str, ast.Module]:
    """{file: its source, parsed}."""
    files = sorted(folder.rglob("*.py"))
    return {str(path.relative_to(folder.parent)): ast.parse(path.read_text()) for path in files}


def defined(tree: ast.Module) -> Iterator[str]:
    """The public names that a file defines at its top; what it imports is defined elsewhere."""
    for node in tree.body:
        names: list[ast.expr | str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [name for target in node.targets for name in getattr(target, "elts", [target])]
        elif isinstance(node, ast.AnnAssign):
            names = [node.target]
        for name in names:
            name = name.id if isinstance(name, ast.Name) else name
            if isinstance(name, str) and not name.startswith("_"):
                yield name


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, docstring) of the file and of all that is in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (
            said := ast.get_docstring(node)
        ):
            yield getattr(node, "lineno", 1), said


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of every string: what is printed, and docstrings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_public_name_is_defined_twice() -> None:
    """Nobody has to ask which one is meant."""
    where = defaultdict(list)
    for file, tree in trees(PACKAGE).items():
        for name in dict.fromkeys(defined(tree)):
            where[name].append(file)
    assert {name: files for name, files in where.items() if len(files) > 1} == {}


def test_a_docstring_says_something_when_read_alone() -> None:
    riddles = [
        f"{file}:{line} {said!r}"
        for file, tree in trees(PACKAGE).items()
        for line, said in docstrings(tree)
        if len(said.split()) <= WORDS or said.startswith("The same")
    ]
    assert riddles == []


def test_a_folder_is_taken_in_at_a_glance() -> None:
    files = [path for path in PACKAGE.rglob("*") if path.is_file()]
    sizes = Counter(path.parent for path in files if "__pycache__" not in path.parts)
    assert {folder: size for folder, size in sizes.items() if size > FILES} == {}


def test_the_package_does_not_grow() -> None:
    lines = sum(len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py"))
    assert lines <= LINES, f"{lines} lines of Python in {PACKAGE.name}, above {LINES}"


def test_studies_print_figures_not_what_somebody_wanted() -> None:
    said = [
        f"{file}:{line} {text!r}"
        for file, tree in trees(STUDIES).items()
        for line, text in strings(tree)
        if SOMEBODY.search(text)
    ]
    assert said == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(): ...\nclass C:\n    def g(self): ...", ["f", "C"]),
        ("one, two = 1, 2\nX: int = 3\nA = B = 4", ["one", "two", "X", "A", "B"]),
        ("from torch import nn\n_private = 1\nnn.x = 2", []),
    ],
)
def test_every_way_to_define_is_seen(source: str, names: list[str]) -> None:
    assert list(defined(ast.parse(source))) == names
