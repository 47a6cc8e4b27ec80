"""The arrows of the house: who may import whom, and how long the core may be."""

import ast
from pathlib import Path

import ekfac_ref

ROOT = Path(ekfac_ref.__file__).parent
ORDER = [
    *("errors", "extras", "notation", "eigen", "random_state", "buffers", "rewritten"),
    *("likelihoods", "columns", "sharing", "problem"),
    *("linear_form", "layers", "batches", "forward", "uses", "masks"),
    *("taps", "session", "tapped", "gradients", "losses"),
    *("operators", "fisher", "kfac", "ekfac"),
    *("blocks", "cli"),
]
MATRIX_HALF = {"operators", "fisher", "kfac", "ekfac", "eigen"}
MODEL_HALF = {
    *("layers", "batches", "forward", "uses", "masks"),
    *("taps", "session", "tapped", "gradients"),
}


def imports(path: Path) -> set[str]:
    """Names of this package's modules that a file imports, dots after ekfac_ref kept."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ekfac_ref"):
            module = (node.module or "").removeprefix("ekfac_ref").lstrip(".")
            found |= {module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)}
    return found


def core() -> dict[str, set[str]]:
    return {p.stem: imports(p) for p in ROOT.glob("*.py") if p.stem != "__init__"}


def test_arrows_point_one_way() -> None:
    for name, imported in core().items():
        earlier = ORDER[: ORDER.index(name)]
        assert {i for i in imported if i in ORDER} <= set(earlier), name


def test_the_two_halves_meet_in_blocks_alone() -> None:
    for name, imported in core().items():
        if name in MATRIX_HALF:
            assert not imported & MODEL_HALF, name
        if name in MODEL_HALF:
            assert not imported & MATRIX_HALF, name


def test_a_judge_does_not_know_the_accused() -> None:
    files = list((ROOT / "conformance").rglob("*.py"))
    assert len(files) > 5
    for path in files:
        assert not imports(path) & {"kfac", "ekfac", "blocks", ""}, path.name


def test_this_test_sees_imports() -> None:
    assert {"kfac", "ekfac", "tapped"} <= imports(ROOT / "blocks.py")
    assert "conformance.oracle" in imports(ROOT / "conformance" / "laws.py")


def test_the_core_fits_into_an_afternoon() -> None:
    names = ("gradients", "taps", "linear_form", "fisher", "kfac", "ekfac", "operators")
    assert sum(len((ROOT / f"{name}.py").read_text().splitlines()) for name in names) < 700
