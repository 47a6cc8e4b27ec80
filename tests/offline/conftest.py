"""A small set of questions, answered by the example in numpy; copied where a test changes it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ekfac_ref.conformance.offline.export import export

EXAMPLES = Path(__file__).parents[2] / "examples"


def answered_by_numpy(folder: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "networks_numpy.py"), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.fixture(scope="session")
def numpy_answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To the plain cases of all kinds of layers, and the first three features."""
    folder = tmp_path_factory.mktemp("questions")
    export(folder, 12, 0)
    answered_by_numpy(folder)
    return folder


@pytest.fixture(scope="session")
def few_answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To six plain cases."""
    folder = tmp_path_factory.mktemp("few")
    export(folder, 6, 0)
    answered_by_numpy(folder)
    return folder


@pytest.fixture
def changed(few_answers: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(few_answers, tmp_path / "answers"))
