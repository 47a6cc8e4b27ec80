"""The kit's public surface: its names, what they say of themselves, and who uses anything else."""

import ast
import inspect
import re
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance import adapter, for_pytest
from ekfac_ref.conformance.problems.source import script

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FACES = {"adapter", "declared", "for_pytest"}  # what may be imported of the kit's inside


def test_public_names_of_the_kit() -> None:
    constants = ["LAWS", "MUTANTS"]
    records = ["Abilities", "BadAnswer", "Definition", "Doubt", "Factored", "KnownDeviations"]
    records += [
        "LawBroken",
        "OnKFAC",
        "Packed",
        "Profile",
        "Report",
        "Separate",
        "Shared",
        "Status",
    ]
    records += ["Subject"]
    functions = [
        "as_subject",
        "ask",
        "check",
        "check_on",
        "diagnose",
        "draw_problems",
        "load",
        "networks",
    ]
    assert ct.__all__ == constants + records + functions


def test_public_names_of_the_adapter() -> None:
    records = ["Convention", "Eigen", "Factors", "Matrix", "WithBias"]
    layouts = ["bias_behind", "bias_first", "bias_last", "columns", "in_columns", "in_rows", "rows"]
    scales = ["averaged", "mean_loss", "of_loss", "samples", "sum_loss", "unit", "unit_loss"]
    types = ["Bias", "Layout", "Part", "Parts", "Scale"]
    assert sorted(adapter.__all__) == sorted([*records, "adapted", *layouts, *scales, *types])


def test_public_names_of_the_tests_for_others() -> None:
    public = [
        name
        for name, value in vars(for_pytest).items()
        if inspect.isfunction(value)
        and value.__module__ == for_pytest.__name__
        and not name.startswith("_")
    ]
    assert public == ["conformance_tests"]


PUBLIC = [getattr(face, name) for face in (ct, adapter) for name in face.__all__]
SAYING = [
    x
    for x in PUBLIC
    # In Python 3.10 the name of a type, Callable[...] say, passes for a type.
    if isinstance(x, type | FunctionType | ModuleType) and not hasattr(x, "__origin__")
]


@pytest.mark.parametrize(
    "thing", [*SAYING, for_pytest.conformance_tests], ids=lambda thing: thing.__name__
)
def test_every_name_says_what_it_is(thing: type | FunctionType | ModuleType) -> None:
    """Not as its base does, nor in the words that a dataclass gets for nothing."""
    said = (vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__) or ""
    assert len(said.split()) > 4
    assert not said.startswith(f"{thing.__name__}(")


def test_laws_and_mutants_are_found_by_name() -> None:
    for mapping in (ct.LAWS, ct.MUTANTS):
        assert [thing.name for thing in mapping.values()] == list(mapping)


TYPED = """
import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Convention, adapted
from ekfac_ref.conformance.for_pytest import conformance_tests

def of(problem: ek.Problem) -> dict[str, ek.Operator]:
    found: dict[str, ct.LawBroken | ct.Doubt | None] = ct.ask(ek.ekfac, problem, ["trace"])
    reveal_type(ct.check(ek.ekfac, "quick").summary)
    reveal_type(ct.LAWS["trace"].statement)
    reveal_type(ct.diagnose(ek.ekfac).sentence)
    print(found, ct.load("package.module:name"), Convention())
    return {**ek.ekfac(problem)}

test_ekfac = conformance_tests(of)
adapted(7)
"""


def test_names_are_typed(tmp_path: Path) -> None:
    """Strictly, for somebody else's checker; what is wrong with the last line is found."""
    api = pytest.importorskip("mypy.api")  # which the extra "test" leaves out, and "dev" brings
    file = tmp_path / "theirs.py"
    file.write_text(TYPED)
    assert (Path(ek.__file__).parent / "py.typed").exists()
    asked = f"--config-file {ROOT / 'pyproject.toml'} --cache-dir {ROOT / '.mypy_cache'} {file}"
    out, err, code = api.run(asked.split())
    revealed = re.findall(r'Revealed type is "(?:builtins\.)?(\w+)', out)
    wrong = [line for line in out.splitlines() if ": error:" in line]
    assert revealed == ["str"] * 3, out + err
    assert len(wrong) == code == 1, out
    assert 'Argument 1 to "adapted" has incompatible type "int"' in wrong[0]


def imported_inside(source: str) -> set[str]:
    """What a source imports of the kit beyond its faces."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    inside = {name for name in names if name.startswith("ekfac_ref.conformance.")}
    return {name for name in inside if name.split(".")[2] not in {*FACES, *ct.__all__}}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_use_the_face_alone(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    assert set().union(*map(imported_inside, blocks)) == set()


@pytest.mark.parametrize("subject", [None, "ekfac_ref.examples:hooks", "mutant:half-lambda"])
@pytest.mark.parametrize("law", [None, "trace"])
def test_printed_scripts_use_the_face_alone(subject: str | None, law: str | None) -> None:
    model = ct.networks.MaskedMean(nn.Linear(2, 2), nn.Linear(2, 1)).double().eval()
    x, mask = torch.ones(2, 3, 2).double(), torch.ones(2, 3, dtype=torch.bool)
    data = [({"x": x, "mask": mask}, torch.ones(2, 1).double())]
    problem = ek.Problem(model, data, ek.Gaussian(), mask=lambda inputs: inputs["mask"])
    assert imported_inside(script(problem, law, subject)) == set()


def test_what_is_inside_is_seen() -> None:
    inside = "from ekfac_ref.conformance.run.check import check\nimport ekfac_ref.conformance.truth"
    assert len(imported_inside(inside)) == 2
    face = "from ekfac_ref.conformance.adapter import Eigen\nfrom ekfac_ref import conformance"
    assert imported_inside(face) == set()
