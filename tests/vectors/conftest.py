"""The committed vectors, read once."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "vectors"


def cases() -> list[dict[str, Any]]:
    """All of them, in the order of the manifest."""
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    files = [entry["file"] for entry in manifest["files"] if "cases" in entry]
    return [case for name in files for case in json.loads((FOLDER / name).read_text())["cases"]]


@pytest.fixture(scope="session")
def vectors() -> list[dict[str, Any]]:
    return cases()
