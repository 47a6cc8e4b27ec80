r"""A set of problems as a folder of questions, one subfolder each, with a manifest of digests.

manifest.json                 what was drawn, what was left out and why, which questions belong
to which problem, and the digest of every question
questions/0007-recut/question.json   a question; the program writes an answer beside it
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import ekfac_ref.conformance.offline.question as written
from ekfac_ref.conformance.offline.network import NoOperation
from ekfac_ref.conformance.offline.questions import PLAIN, questions_about
from ekfac_ref.conformance.offline.schema import FILES_SCHEMA
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.digest import digest
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.problems.features import features
from ekfac_ref.question.problem import Problem

SET = "ekfac-ref questions"  # the format, as the manifest has it
QUESTION, QUESTIONS = "question.json", "questions"
SET_MANIFEST, SET_SCHEMA = "manifest.json", "schema.json"
KINDS_OF_LAYERS = tuple(kind.__name__ for kind in Abilities().layers)


@dataclass(frozen=True, eq=False)
class Exported:
    """A set of problems, and what of it can be written.

    Attributes:
        count, seed, layers: of the draw; names of the kinds of layers that are asked about.
        problems: {number in the draw: problem}, of those that can be written.
        left_out: {number: why not}, of the others.
        digest: of all that was drawn.
    """

    count: int
    seed: int
    layers: tuple[str, ...]
    problems: dict[int, Problem]
    left_out: dict[int, str]
    digest: str

    @property
    def says(self) -> str:
        """How many problems there are, and why others are left out."""
        why = Counter(self.left_out.values())
        others = ", ".join(f"{reason} ({times})" for reason, times in why.most_common())
        told = (
            f"; {len(self.left_out)} are left out, of which files have no operation for: {others}"
        )
        return f"{len(self.problems)} of {self.count} problems{told if others else ''}"


@lru_cache(maxsize=8)  # the last sets, for whoever exports and judges
def problem_set(count: int, seed: int, layers: tuple[str, ...] = KINDS_OF_LAYERS) -> Exported:
    """Drawn as for a check of a subject that can do these kinds of layers; not to be changed."""
    kinds = tuple(kind for kind in Abilities().layers if kind.__name__ in layers)
    drawn = draw_problems(Abilities(layers=kinds), count, seed)
    problems, left_out = dict[int, Problem](), dict[int, str]()
    for number, problem in enumerate(drawn):
        try:
            written.as_question(problem)
            problems[number] = problem
        except NoOperation as error:
            left_out[number] = str(error)
    return Exported(count, seed, layers, problems, left_out, digest(drawn))


def export(
    folder: Path, count: int, seed: int, layers: Sequence[str] = KINDS_OF_LAYERS
) -> Exported:
    """Write all questions; what is there of the like is written over, answers are left."""
    found = problem_set(count, seed, tuple(layers))
    told, folder_of = list[dict[str, Any]](), dict[str, str]()
    for number, problem in found.problems.items():
        names = {}
        for change, question in questions_about(problem).items():
            text = written.as_question(question, solved=change == PLAIN)
            name = f"{number:04}-{change}"
            if text["key"] not in folder_of:
                folder_of[text["key"]] = name
                _write(folder / QUESTIONS / name / QUESTION, text)
            names[change] = folder_of[text["key"]]
        told.append({"number": number, "features": list(features(problem)), "questions": names})
    _write(folder / SET_SCHEMA, FILES_SCHEMA)
    _write(folder / SET_MANIFEST, _manifest(folder, found, told, folder_of))
    return found


def _manifest(
    folder: Path, found: Exported, told: list[dict[str, Any]], folder_of: dict[str, str]
) -> dict[str, Any]:
    digests = {}
    for name in folder_of.values():
        contents = (folder / QUESTIONS / name / QUESTION).read_bytes()
        digests[name] = hashlib.sha256(contents).hexdigest()
    return {
        "format": SET,
        "version": written.QUESTION_VERSION,
        "count": found.count,
        "seed": found.seed,
        "layers": list(found.layers),
        "problems digest": found.digest,
        "left out": [{"number": n, "why": why} for n, why in found.left_out.items()],
        "problems": told,
        "questions": digests,
    }


def _write(path: Path, contents: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    one_line = path.name == QUESTION
    text = (
        json.dumps(contents, separators=(",", ":")) if one_line else json.dumps(contents, indent=1)
    )
    path.write_bytes(f"{text}\n".encode("ascii"))
