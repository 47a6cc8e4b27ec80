r"""One answer as a file: arrays by name, or a text that says why there is none.

    {"key": "e19255a320e3b184", "0/ekfac/0/Q_B": [[...]], "0/ekfac/0/Q_A": ..., ...}

Names are layer/way/group/part; the diagonal and gradients of samples are layer/diagonal and
layer/per_sample_gradients, of all groups. npz has the same names.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ekfac_ref.conformance.adapter.parts import Eigen, Factors, Matrix, Part, WithBias
from ekfac_ref.conformance.offline.contents import contents, of_json, of_npz
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import OPERATORS, TENSORS

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


def files_of(folder: Path) -> list[Path]:
    """The answers, or refusals, that there are in a question's folder: one, as it should be."""
    return [folder / name for name in (ANSWER, ARRAYS, REFUSED_TEXT) if (folder / name).exists()]


def read_answer(folder: Path, key: str, layers: Collection[str]) -> FiledAnswer:
    """What is in a question's folder; BadAnswer where it cannot be read or is another's.

    ``layers`` are those that it may name: of the network, or asked about though there are none.
    """
    there = files_of(folder)
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
            said = contents(file).decode("utf-8", errors="replace").strip()
            return FiledAnswer(file, {}, said or "it gives no reason")
        told, arrays = (of_json if file.name == ANSWER else of_npz)(file)
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
    answer = FiledAnswer(file, arrays)
    for name in arrays:
        layer, *of = name.split("/")
        if layer not in layers:
            raise answer.bad(f"{name!r}: there is no layer {layer!r}, only {sorted(layers)}")
        if not of or of[0] not in (*OPERATORS, SOLVE, *TENSORS):
            ways = ", ".join((*OPERATORS, SOLVE, *TENSORS))
            raise answer.bad(f"{name!r} is no name; write layer/way, the way one of {ways}")
    return answer


def _told(file: Path) -> str:
    """The file by its folder, of which there are many."""
    return f"{file.parent.name}/{file.name}"
