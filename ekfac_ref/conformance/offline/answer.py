r"""One answer as a file: arrays by name, or a text that says why there is none.

    {"key": "e19255a320e3b184", "0/ekfac/0/Q_B": [[...]], "0/ekfac/0/Q_A": ..., ...}

Names are layer/way/group/part; the diagonal and gradients of samples are layer/diagonal and
layer/per_sample_gradients, of all groups. npz has the same names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ekfac_ref.conformance.adapter.parts import Eigen, Factors, Matrix, Part, WithBias
from ekfac_ref.conformance.subjects.matrices import BadAnswer

ANSWER, ARRAYS, REFUSED_TEXT = "answer.json", "answer.npz", "refused.txt"
SOLVE = "solve"  # [3, d_out, d_in] of a group: what the question's three solves come to
_KINDS: tuple[tuple[type[Any], tuple[str, ...]], ...] = (
    (Eigen, ("Q_B", "Q_A", "eigenvalues")),
    (Factors, ("B", "A")),
    (Matrix, ("matrix",)),
)


class RefusedInFile(Exception):
    """What another program has refused, in the words of its ``refused.txt``."""


@dataclass(frozen=True, eq=False)
class FiledAnswer:
    """What another program wrote to one question.

    Attributes:
        file: which, for messages.
        arrays: {name: numbers in float64}.
        refused: why there are none; "" where there are.
    """

    file: Path
    arrays: Mapping[str, Tensor]
    refused: str = ""

    @property
    def ways(self) -> set[str]:
        """What it answers: ekfac, kfac, diagonal and so on."""
        return {name.split("/")[1] for name in self.arrays if "/" in name}

    def parts(self, way: str) -> dict[str, list[Part | WithBias]]:
        """{layer: what is there of each group}; BadAnswer where names are none or parts missing."""
        grouped: dict[str, dict[int, dict[str, Tensor]]] = {}
        for name, x in self.arrays.items():
            layer, of, *rest = name.split("/")
            if of == way:
                if len(rest) < 2 or not rest[0].isdigit():
                    raise self.bad(f"{name!r} is no name; write layer/{way}/group/part, from 0 on")
                grouped.setdefault(layer, {}).setdefault(int(rest[0]), {})["/".join(rest[1:])] = x
        return {layer: self._groups(layer, way, found) for layer, found in grouped.items()}

    def of_layers(self, way: str) -> dict[str, Tensor]:
        """{layer: tensor} of a way that has one for each."""
        named = [(name.split("/"), x) for name, x in self.arrays.items()]
        return {split[0]: x for split, x in named if split[1:] == [way]}

    def solved(self, layer: str, group: int) -> Tensor | None:
        """What it solved for the question's vectors, [3, d_out, d_in]; None if nothing."""
        return self.arrays.get(f"{layer}/{SOLVE}/{group}")

    def _groups(
        self, layer: str, way: str, found: dict[int, dict[str, Tensor]]
    ) -> list[Part | WithBias]:
        if sorted(found) != list(range(len(found))):
            raise self.bad(f"layer {layer!r}, {way}: groups {sorted(found)}; count them from 0 on")
        return [self._part(layer, way, found[k]) for k in range(len(found))]

    def _part(self, layer: str, way: str, arrays: dict[str, Tensor]) -> Part | WithBias:
        apart = [
            {n.partition("/")[2]: x for n, x in arrays.items() if n.startswith(f"{of}/")}
            for of in ("weight", "bias")
        ]
        if all(apart) and sum(map(len, apart)) == len(arrays):
            weight, bias = (self._whole(layer, way, one) for one in apart)
            return WithBias(weight, bias)
        return self._whole(layer, way, arrays)

    def _whole(self, layer: str, way: str, arrays: dict[str, Tensor]) -> Part:
        for kind, names in _KINDS:
            if set(arrays) == set(names):
                part: Part = kind(**arrays)
                return part
        choices = " or ".join(" and ".join(names) for _, names in _KINDS)
        raise self.bad(f"layer {layer!r}, {way}: there is {sorted(arrays)}, expected {choices}")

    def bad(self, what: str) -> BadAnswer:
        """Which file, and what is wrong with it."""
        return BadAnswer(f"{_told(self.file)}: {what}")


def read_answer(folder: Path, key: str) -> FiledAnswer:
    """What is in a question's folder; BadAnswer where it cannot be read or is another's."""
    there = [folder / name for name in (ANSWER, ARRAYS, REFUSED_TEXT) if (folder / name).exists()]
    if not there:
        raise BadAnswer(
            f"{_told(folder / ANSWER)} is missing; write it, or {ARRAYS}, or why not into "
            f"{REFUSED_TEXT}"
        )
    file = there[0]
    if len(there) > 1:
        others = ", ".join(path.name for path in there[1:])
        raise BadAnswer(f"{_told(file)}: there is {others} beside it; leave one of them")
    try:
        if file.name == REFUSED_TEXT:
            said = file.read_text("utf-8", errors="replace").strip()
            return FiledAnswer(file, {}, said or "it gives no reason")
        found = _of_json(file) if file.name == ANSWER else _of_npz(file)
        told = str(found.pop("key", ""))
        arrays = {name: torch.as_tensor(np.asarray(x, np.float64)) for name, x in found.items()}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadAnswer(
            f"{_told(file)} cannot be read ({type(error).__name__}: {error}); it may be cut off, "
            "write it anew"
        ) from None
    if told != key:
        raise BadAnswer(
            f"{_told(file)} answers the question {told!r}, and the one beside it is {key!r}; "
            'repeat the "key" of the question that it answers'
        )
    return FiledAnswer(file, arrays)


def _of_json(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__}, expected an object of arrays")
    return found


def _of_npz(file: Path) -> dict[str, Any]:
    """Nothing in it is run: what would have to be unpickled is an error."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = dict(archive)
    except Exception as error:  # zipfile has errors of its own
        raise ValueError(str(error)) from error
    key = found.get("key", np.zeros(0))
    return {**found, "key": bytes(key).decode("ascii") if key.dtype == np.uint8 else str(key)}


def _told(file: Path) -> str:
    """The file by its folder, of which there are many."""
    return f"{file.parent.name}/{file.name}"
