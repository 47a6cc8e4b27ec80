"""Python in a fresh process in some folder, which knows nothing of this one's environment."""

import os
import subprocess
import sys
from pathlib import Path


def python(
    folder: Path, *arguments: str, path: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """``path`` is where packages are found before any checkout."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    found = {"PYTHONPATH": str(path)} if path else {}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept | found | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


# Somebody else's suite, with a profile and a fixture of its own.
CONFTEST = """
import pytest, torch
from hypothesis import settings

settings.register_profile("theirs", max_examples=1, derandomize=True)
settings.load_profile("theirs")
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

@pytest.fixture(autouse=True)
def theirs(monkeypatch):
    yield
"""
