r"""Vectors as files: one JSON file and one npz file a family, a schema, and a manifest of digests.

The bytes are the same on every machine: numbers are rounded once, JSON has each in the fewest
digits that give it back, and the zip archives are stored as they are, without a date.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ekfac_ref.conformance.truth.tolerance import LIMIT, MISTAKE
from ekfac_ref.conformance.vectors.answers import AskedBlock, RightAnswer, answered
from ekfac_ref.conformance.vectors.bare import Bare
from ekfac_ref.conformance.vectors.drawn import family_says, vectors_by_family
from ekfac_ref.conformance.vectors.schema import SCHEMA
from ekfac_ref.question.sharing import Expand

FORMAT, VERSION = "ekfac-ref vectors", 1
SCHEMA_FILE, MANIFEST_FILE = "schema.json", "manifest.json"
VALID, UNDETERMINED, REFUSE = "valid", "undetermined", "refuse"
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # that a zip archive knows
_RULE = (
    "ratio = |yours - value| / (scale * length * roundoff), the norm Frobenius's, or entry by "
    "entry of value, or of its first axis, where scale has that shape; roundoff is 2^-52 "
    "for float64, 2^-23 for float32. Up to `limit` it is rounding, above `mistake` a mistake."
)


def write_vectors(folder: Path) -> dict[str, bytes]:
    """Write all files into a folder, which is made; returns {name: contents}."""
    folder.mkdir(parents=True, exist_ok=True)
    found = vector_files()
    for name, contents in found.items():
        (folder / name).write_bytes(contents)
    return found


def vector_files() -> dict[str, bytes]:
    """{name: contents} of all files."""
    found = {SCHEMA_FILE: _text(json.dumps(SCHEMA, indent=1))}
    told: list[dict[str, Any]] = [_entry(SCHEMA_FILE, found[SCHEMA_FILE])]
    number = 0
    for family, bares in vectors_by_family().items():
        cases, arrays = [], dict[str, np.ndarray]()
        for bare in bares:
            blocks = [] if bare.refused else answered(bare, number)
            cases.append(_case(bare, blocks))
            arrays |= _arrays(bare, blocks)
            number += 1
        ids = {case["id"]: case["status"] for case in cases}
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        head = json.dumps({"format": FORMAT, "version": VERSION, "family": family,
                           "says": family_says(family)})  # fmt: skip
        found[f"{family}.json"] = _text(f'{head[:-1]}, "cases": [\n{lines}\n]}}')
        found[f"{family}.npz"] = _npz(arrays)
        told.append({**_entry(f"{family}.json", found[f"{family}.json"]), "cases": ids})
        told.append(_entry(f"{family}.npz", found[f"{family}.npz"]))
    found[MANIFEST_FILE] = _text(json.dumps(_manifest(told), indent=1))
    return found


def _manifest(files: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "schema": SCHEMA_FILE,
        "rows": "nested lists, the last axis innermost; vec stacks the rows of [W | b], so that "
        "entry (o, i) of a block stands at o * d_in + i, and KFAC is B (x) A, B first",
        "bytes": "npz: float64, little-endian, in C order (counted: one byte, 0 or 1)",
        "rule": {"ratio": _RULE, "limit": LIMIT, "mistake": MISTAKE},
        "files": files,
    }


def _entry(name: str, contents: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(contents).hexdigest()
    return {"file": name, "bytes": len(contents), "sha256": digest}


def _text(text: str) -> bytes:
    return (text + "\n").encode("ascii")


def _case(bare: Bare, blocks: list[AskedBlock]) -> dict[str, Any]:
    """One vector as it stands in a file."""
    open_ = [told.why for block in blocks for told in block.answers.values() if told.value is None]
    status = REFUSE if bare.refused else UNDETERMINED if open_ else VALID
    case = {
        "id": bare.name,
        "status": status,
        "why": bare.refused or (open_[0] if open_ else ""),
        "says": bare.says,
        "sharing": "expand" if isinstance(bare.sharing, Expand) else "reduce",
        "bias": bare.bias.value,
        "a": _numbers(bare.a),
        "g": _numbers(bare.g),
        "counted": bare.counted.tolist(),
    }
    if bare.refused:
        return {**case, "dampings": _numbers(np.array(bare.dampings or (1.0,)))}
    return {**case, "blocks": [_block(block) for block in blocks]}


def _block(block: AskedBlock) -> dict[str, Any]:
    return {
        "name": block.name,
        "columns": [block.columns.start, block.columns.stop],
        "length": block.length,
        "Q_B": _numbers(block.Q_B),
        "Q_A": _numbers(block.Q_A),
        "V": _numbers(block.V),
        "dampings": list(block.dampings),
        "answers": {name: _answer(told) for name, told in block.answers.items()},
    }


def _answer(told: RightAnswer) -> dict[str, Any]:
    status = {"status": VALID if told.value is not None else UNDETERMINED}
    why = {"why": told.why} if told.why else {}
    if told.value is None:
        return {**status, **why, **told.more}
    scale = told.scale.tolist() if isinstance(told.scale, np.ndarray) else told.scale
    return {**status, **why, **told.more, "scale": scale, "value": _numbers(told.value)}


def _numbers(x: np.ndarray) -> Any:
    """Nested lists; what is no number in JSON is a text: "NaN", "Infinity", "-Infinity"."""
    if np.isfinite(x).all():
        return x.tolist()
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    flat = np.array([names.get(str(v), v) for v in x.ravel().tolist()], dtype=object)
    return flat.reshape(x.shape).tolist()


def _arrays(bare: Bare, blocks: list[AskedBlock]) -> Mapping[str, np.ndarray]:
    """{id/name or id/block/name: array}, of the numbers that JSON has, too."""
    found = {f"{bare.name}/{name}": getattr(bare, name) for name in ("a", "g", "counted")}
    for block in blocks:
        at = f"{bare.name}/{block.name}"
        found |= {f"{at}/{name}": getattr(block, name) for name in ("Q_B", "Q_A", "V")}
        found[f"{at}/dampings"] = np.array(block.dampings)
        for name, told in block.answers.items():
            if told.value is not None:
                found[f"{at}/{name}"] = told.value
    return found


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What numpy's ``load`` reads, byte by byte as written here."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, x in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", _FIRST_DAY)
            info.create_system = 3  # whichever system writes it
            archive.writestr(info, _npy(x))
    return stream.getvalue()


def _npy(x: np.ndarray) -> bytes:
    """Version 1.0 of numpy's format: a header to a multiple of 64 bytes, then the numbers."""
    kind = "|b1" if x.dtype == bool else "<f8"
    shape = f"({', '.join(map(str, x.shape))}{',' if x.ndim == 1 else ''})"
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    return start + header.encode("ascii") + np.ascontiguousarray(x).astype(kind).tobytes()
