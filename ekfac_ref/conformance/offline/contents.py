"""What is in a file that another program wrote: all of it is real numbers, or it is an error.

Nothing in it is run, and it is looked at before it is read: a pipe would be waited for, a device
read without end.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MOST_BYTES = 2**28  # the answers to the largest question that is drawn are a thousandth of it
_TEXTS = ("NaN", "Infinity", "-Infinity")  # JSON has no numbers for them
_REAL = "fiu"  # numpy's letters for floating-point numbers and integers


def contents(path: Path) -> bytes:
    """All bytes of a file; OSError where it is no regular file, or too large to be meant."""
    if path.exists() and not path.is_file():
        raise OSError("it is no regular file, put one in its place")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise OSError(f"{size} bytes, expected at most {MOST_BYTES}; is it another file?")
    return path.read_bytes()


def of_json(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The key and {name: numbers in float64}; ValueError, or another, where there are others."""
    found = json.loads(contents(path).decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__}, expected an object of arrays")
    key = str(found.pop("key", ""))
    for name, x in found.items():
        for one in _leaves(x):
            _check_number(name, one)
    return key, {name: _tensor(np.asarray(x, np.float64)) for name, x in found.items()}


def of_npz(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The key and {name: numbers in float64} of numpy's archive; what is pickled is an error."""
    archived = io.BytesIO(contents(path))
    try:
        with zipfile.ZipFile(archived) as files:
            size = sum(one.file_size for one in files.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size} bytes of arrays, expected at most {MOST_BYTES}")
        with np.load(archived, allow_pickle=False) as archive:
            found = dict(archive)
    except Exception as error:  # zipfile has errors of its own
        raise ValueError(str(error)) from error
    key = found.pop("key", np.zeros(0))
    for name, x in found.items():
        if x.dtype.kind not in _REAL:
            raise ValueError(f"{name!r} is an array of {x.dtype}, expected real numbers")
    told = bytes(key).decode("ascii") if key.dtype == np.uint8 else str(key)
    return told, {name: _tensor(x) for name, x in found.items()}


def _leaves(x: Any) -> Iterator[Any]:
    if isinstance(x, list):
        for one in x:
            yield from _leaves(one)
    else:
        yield x


def _check_number(name: str, x: Any) -> None:
    """Whether it is a number, by itself: numpy would make one of "1", true and null."""
    if isinstance(x, bool) or not (isinstance(x, int | float) or x in _TEXTS):
        raise ValueError(f"{name!r} has {json.dumps(x)[:40]} in it, expected numbers in lists")
    try:
        float(x)
    except OverflowError:
        raise ValueError(f"{name!r} has an integer in it that is too large for float64") from None


def _tensor(x: Any) -> Tensor:
    return torch.as_tensor(np.asarray(x, np.float64))
