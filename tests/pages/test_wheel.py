"""What is installed from a wheel works in somebody else's folder, without the checkout."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fresh import CONFTEST, python
from tests.test_house import arrows, modules

ROOT = Path(__file__).parents[2]


def files(package: Path) -> set[str]:
    """Everything but what Python compiled."""
    found = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
    return {str(path) for path in found if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pip makes of a wheel; built from a copy, since a build leaves traces."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "in"))
    for name in ("ekfac_ref", "studies", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--wheel-dir", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    pip("install", "--no-compile", "--target", str(target), str(wheel))
    return target


def pip(command: str, *arguments: str) -> None:
    pip_ = [sys.executable, "-m", "pip", command, "--no-deps", "--quiet", *arguments]
    ran = subprocess.run(pip_, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_nothing_is_left_out_of_the_wheel(installed: Path) -> None:
    assert files(installed / "ekfac_ref") == files(ROOT / "ekfac_ref")


def test_nothing_but_the_package_is_in_the_wheel(installed: Path) -> None:
    beside = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert beside == {"ekfac_ref", "bin"}
    data = {name for name in files(installed / "ekfac_ref") if not name.endswith(".py")}
    page, adapter = Path("conformance", "reports", "page.html.j2"), Path("commands/adapter.py.txt")
    assert data == {"py.typed", str(page), str(adapter)}


PUBLIC = {"", "__main__", "optim", "sharded", "notation", "cli", "examples"}
PUBLIC |= {"conformance", "conformance.adapter", "conformance.for_pytest"}
PUBLIC |= {"conformance.process.child"}  # which another process starts by its name


def test_every_module_in_the_wheel_serves_a_public_one() -> None:
    """What only this repository's pages and pictures need is a study."""
    serving, found = set[str](), [*PUBLIC]
    while found:
        name = found.pop()
        if name not in serving:
            serving.add(name)
            found += [*arrows()[name], name.rpartition(".")[0]]  # with it, its package is imported
    assert set(modules()) - serving == set()


THREE_LINES = """
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.for_pytest import conformance_tests
from ekfac_ref.examples import hooks

test_hooks = conformance_tests(hooks, Profile("tiny", 3, 0.0))


def test_where_it_comes_from():
    import ekfac_ref

    print(ekfac_ref.__file__)
"""


def test_three_lines_in_a_foreign_suite(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_theirs.py").write_text(THREE_LINES)
    pytest_ = ("-m", "pytest", "-p", "no:cacheprovider")
    some = "(enough or trace or eigenvalues or kfac or where) and not sampled"
    ran = python(tmp_path, *pytest_, "-vs", "-k", some, path=installed)
    found = dict(re.findall(r"::(\S+) .*?(PASSED|SKIPPED|FAILED)", ran.stdout, re.DOTALL))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert found == {
        "test_hooks[enough-is-answered]": "PASSED",
        "test_hooks[trace]": "PASSED",
        "test_hooks[eigenvalues]": "PASSED",
        "test_hooks[kfac]": "SKIPPED",
        "test_where_it_comes_from": "PASSED",
    }
    assert f"{installed / 'ekfac_ref' / '__init__.py'}\n" in ran.stdout


COMMAND = """
import pathlib, runpy, sys
import ekfac_ref

pathlib.Path("where").write_text(ekfac_ref.__file__)
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def test_the_command_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    script = installed / "bin" / "ekfac-ref"
    arguments = ["check", "ekfac_ref.examples:hooks", "--profile", "demo"]
    arguments += ["--law", "trace", "--law", "eigenvalues"]
    arguments += ["--json", "out.json", "--report", "out.html"]
    ran = python(tmp_path, "-c", COMMAND, str(script), *arguments, path=installed)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == "It conforms: 2 laws hold, on 12 problems."
    assert (tmp_path / "where").read_text() == str(installed / "ekfac_ref" / "__init__.py")
    assert json.loads((tmp_path / "out.json").read_text())["exit_code"] == 0
    assert "It conforms: 2 laws hold" in (tmp_path / "out.html").read_text()
