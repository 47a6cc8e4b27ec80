"""The files of vectors: the committed bytes are those that the command writes; a schema fits."""

import hashlib
import json
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfac_ref import cli
from ekfac_ref.conformance.vectors import exact
from ekfac_ref.conformance.vectors.files import vector_files
from tests.support.schema import misfits_of_schema
from tests.vectors.conftest import FOLDER


@pytest.mark.shapes
def test_the_command_writes_the_committed_bytes() -> None:
    written = vector_files()
    assert {path.name for path in FOLDER.iterdir()} == set(written)
    different = [name for name, contents in written.items()
                 if (FOLDER / name).read_bytes() != contents]  # fmt: skip
    assert different == []


def test_the_manifest_has_every_file_with_its_digest() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    told = {entry["file"]: entry for entry in manifest["files"]}
    assert {*told, "manifest.json"} == {path.name for path in FOLDER.iterdir()}
    for name, entry in told.items():
        contents = (FOLDER / name).read_bytes()
        assert hashlib.sha256(contents).hexdigest() == entry["sha256"], name
        assert len(contents) == entry["bytes"], name
        if "cases" in entry:
            has = {case["id"]: case["status"] for case in json.loads(contents)["cases"]}
            assert has == entry["cases"]


def test_a_few_hundred_in_a_few_megabytes(vectors: list[dict[str, Any]]) -> None:
    how = Counter(case["status"] for case in vectors)
    assert len({case["id"] for case in vectors}) == len(vectors) == 297
    assert how == {"valid": 242, "undetermined": 40, "refuse": 15}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 5.5e6


def test_every_file_fits_the_schema() -> None:
    schema = json.loads((FOLDER / "schema.json").read_text())
    for path in FOLDER.glob("*.json"):
        if path.name not in ("schema.json", "manifest.json"):
            assert misfits_of_schema(json.loads(path.read_text()), schema) == [], path.name


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {"type": "string"}),
        ([1.0, "x"], {"type": "array", "items": {"type": "number"}}),
        ({"b": 1}, {"type": "object", "properties": {"a": {}}, "required": ["a"]}),
        ({"b": 1}, {"properties": {}, "additionalProperties": False, "type": "object"}),
        ("c", {"enum": ["a", "b"]}),
        (2, {"const": 1}),
        (True, {"oneOf": [{"type": "string"}, {"enum": ["x"]}]}),
    ],
)
def test_what_does_not_fit_a_schema_is_told(value: object, schema: dict[str, Any]) -> None:
    assert misfits_of_schema(value, schema)


def test_what_is_undetermined_or_refused_says_why(vectors: list[dict[str, Any]]) -> None:
    for case in vectors:
        assert bool(case["why"]) is (case["status"] != "valid"), case["id"]
        for block in case.get("blocks", []):
            for told in block["answers"].values():
                assert ("value" in told) is (told["status"] == "valid"), case["id"]
                assert "value" in told or told["why"], case["id"]


def test_arrays_hold_the_numbers_of_the_texts(vectors: list[dict[str, Any]]) -> None:
    arrays: dict[str, np.ndarray] = {}
    for path in FOLDER.glob("*.npz"):
        arrays |= dict(np.load(path))
    for case in vectors:
        if case["status"] == "refuse":
            continue
        for name in ("a", "g", "counted"):
            assert np.array_equal(arrays.pop(f"{case['id']}/{name}"), np.array(case[name]))
        for block in case["blocks"]:
            at = f"{case['id']}/{block['name']}"
            told = {name: block[name] for name in ("Q_B", "Q_A", "V", "dampings")}
            told |= {name: one["value"] for name, one in block["answers"].items() if "value" in one}
            for name, value in told.items():
                assert np.array_equal(arrays.pop(f"{at}/{name}"), np.array(value)), f"{at}/{name}"
    assert all(name.startswith("refused-") for name in arrays)


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    assert cli.main(["vectors", str(tmp_path / "taken")]) == 2
    assert "taken cannot be written" in capsys.readouterr().err


def test_decimals_round_once() -> None:
    with exact.sixty_digits():
        third = exact.decimals_of(np.array([Fraction(1, 3)], dtype=object))
    almost = np.array([Decimal(1), Decimal("1e-55")], dtype=object)
    assert exact.rounded_once(third).tolist() == [1 / 3]
    assert exact.rounded_once(almost).tolist() == [1.0, 0.0]
