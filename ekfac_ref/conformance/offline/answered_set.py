r"""A folder of questions with its answers: a subject that laws can be asked of."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.adapter.adapted import adapted
from ekfac_ref.conformance.offline.answer import (
    ANSWER,
    FiledAnswer,
    RefusedInFile,
    files_of,
    read_answer,
)
from ekfac_ref.conformance.offline.contents import contents
from ekfac_ref.conformance.offline.declared import Declared
from ekfac_ref.conformance.offline.export import (
    QUESTION,
    QUESTIONS,
    SET,
    SET_MANIFEST,
    Exported,
    problem_set,
)
from ekfac_ref.conformance.offline.question import (
    QUESTION_VERSION,
    SOLVED,
    as_question,
    block_vectors,
)
from ekfac_ref.conformance.offline.questions import PLAIN, questions_about
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import OPERATORS, TENSORS, Subject
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.problem import Problem

_CLOSE = 1e-6  # relative: torch's random numbers may differ in the last place between machines


class NotAmongFiles(Exception):
    """A question that nobody has exported, so that there is no answer to it."""


@dataclass(frozen=True, eq=False)
class AnsweredSet:
    """The set, what was answered, and what is wrong with the files.

    Attributes:
        exported: the problems.
        declared: what the other program says of itself.
        answers: {key of a question: the answer}.
        troubles: {number of a problem: what is wrong with a file of its}.
    """

    exported: Exported
    declared: Declared
    answers: dict[str, FiledAnswer]
    troubles: dict[int, str]

    def refusal(self, problem: Problem) -> str:
        """Why the problem itself is refused; "" where it is not."""
        found = self.answers.get(as_question(problem)["key"])
        return found.refused if found else ""

    @property
    def subject(self) -> Subject:
        """Who answers with what is in the files, in all ways that any of them has.

        Where nothing but refusals is there, they are what it says to the first of all ways.
        """
        ways = set().union(*(answer.ways for answer in self.answers.values()))
        ways = ways & {*OPERATORS, *TENSORS} or {OPERATORS[0]}
        asks: dict[str, Any] = {way: self._operators(way) for way in OPERATORS if way in ways}
        asks |= {way: self._tensors(way) for way in TENSORS if way in ways}
        abilities = self.declared.abilities(self.exported.layers)
        return Subject(
            self.declared.name, **asks, abilities=abilities, definition=self.declared.definition
        )

    def _operators(self, way: str) -> Any:
        read = adapted(lambda problem: self._answer(problem).parts(way))

        def ask(problem: Problem) -> dict[str, Any]:
            found, answer = read(problem), self._answer(problem)
            solving = answer if way == "ekfac" else None
            layers = layers_of(problem)
            return {one.name: _shown(one, found[one.name], solving, problem) for one in layers}

        return ask

    def _tensors(self, way: str) -> Any:
        return lambda problem: self._answer(problem).of_layers(way)

    def _answer(self, problem: Problem) -> FiledAnswer:
        key = as_question(problem)["key"]
        if key not in self.answers:
            raise NotAmongFiles("this question is not among those that were exported")
        answer = self.answers[key]
        if answer.refused:
            raise RefusedInFile(answer.refused)
        return answer


def read_set(folder: Path) -> AnsweredSet:
    """All files of a folder that ``export`` has made, and answers beside the questions.

    Raises:
        ProblemError: it is no such folder, another version of the kit has made it, or nobody has
            answered or refused anything.
    """
    manifest = _manifest(folder)
    if not any(files_of(folder / QUESTIONS / name) for name in manifest["questions"]):
        raise ProblemError(
            f"answers: there is none in any file; write {ANSWER} beside the questions, with names "
            f"like '0/{OPERATORS[0]}/0/Q_B'."
        )
    exported = problem_set(*manifest["drawn"])
    numbers = [told["number"] for told in manifest["problems"]]
    if exported.digest != manifest["problems digest"] or numbers != list(exported.problems):
        raise ProblemError(
            f"{folder}: another version of the kit has drawn these problems "
            f"({manifest['problems digest']}, here {exported.digest}); export them again."
        )
    answers, troubles = dict[str, FiledAnswer](), dict[int, str]()
    owners = dict[str, int]()
    for told in manifest["problems"]:
        number, names = told["number"], told["questions"]
        for change, question in questions_about(exported.problems[number]).items():
            if owners.setdefault(names[change], number) != number:
                continue  # another problem has had this question
            right = as_question(question, solved=change == PLAIN)
            try:
                _check_question(folder, names[change], manifest["questions"], right)
                answers[right["key"]] = read_answer(
                    folder / QUESTIONS / names[change], right["key"], _layers_of(question)
                )
            except BadAnswer as error:
                troubles.setdefault(number, str(error))
    return AnsweredSet(exported, Declared.read(folder), answers, troubles)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / SET_MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(contents(path).decode("utf-8"))
        if (manifest["format"], manifest["version"]) != (SET, QUESTION_VERSION):
            raise ValueError(f"format {manifest['format']!r}, version {manifest['version']!r}")
        for one in manifest["problems"]:  # what is read of it is there
            _ = [manifest["questions"][name] for name in one["questions"].values()]
            _ = one["number"], manifest["problems digest"]
        count, seed, layers = (manifest[name] for name in ("count", "seed", "layers"))
        manifest["drawn"] = int(count), int(seed), tuple(map(str, layers))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ProblemError(
            f"{path}: no manifest of questions of version {QUESTION_VERSION} ({error}); give a "
            "folder that ekfac-ref export has made."
        ) from None
    return manifest


def _check_question(
    folder: Path, name: str, digests: dict[str, str], right: dict[str, Any]
) -> None:
    """Whether what the other program has read is what was exported, and what is judged here."""
    path = folder / QUESTIONS / name / QUESTION
    try:
        found = contents(path)
    except OSError as error:
        raise BadAnswer(f"{name}/{QUESTION} cannot be read ({error}); export again") from None
    if hashlib.sha256(found).hexdigest() != digests[name]:
        raise BadAnswer(f"{name}/{QUESTION} is not as it was exported; export again, and answer it")
    if json.loads(found)["key"] != right["key"]:
        raise BadAnswer(
            f"{name}/{QUESTION} is not what is written here; export it on this machine, and answer"
        )


def _layers_of(question: Problem) -> set[str]:
    """Names that answers may begin with: of modules, or asked about though there is no such one."""
    names = {name for name, _ in question.model.named_modules(remove_duplicate=False)}
    return names | {*(question.layers or ())}


def _shown(layer: Layer, operator: Any, answer: FiledAnswer | None, problem: Problem) -> Any:
    """The operator with what the file has and no more: no solve that nobody has computed."""
    blocks = getattr(operator, "blocks", (operator,))
    shown = [_block(layer, k, block, answer, problem) for k, block in enumerate(blocks)]
    if len(shown) == 1:
        return shown[0]
    return SimpleNamespace(matvec=operator.matvec, blocks=tuple(shown))


def _block(
    layer: Layer, k: int, block: Any, answer: FiledAnswer | None, problem: Problem
) -> SimpleNamespace:
    names = ("Q_B", "Q_A", "eigenvalues", "B", "A")
    has = {name: getattr(block, name) for name in names if hasattr(block, name)}
    solutions = None if answer is None else answer.solved(layer.name, k)
    if answer is not None and solutions is not None:
        d_out, d_in = layer.shape
        shape = [len(SOLVED), d_out // layer.groups, d_in]
        if list(solutions.shape) != shape:
            raise answer.bad(f"layer {layer.name!r}, solve: {list(solutions.shape)}, not {shape}")
        vectors = [block_vectors(layer, seed, problem.dtype)[k] for seed, _ in SOLVED]
        has["solve"] = _solve_from(answer, vectors, solutions)
    return SimpleNamespace(matvec=block.matvec, **has)


def _solve_from(answer: FiledAnswer, vectors: list[Tensor], solutions: Tensor) -> Any:
    """A solve that knows these vectors at the dampings of SOLVED, and their negatives."""

    def solve(V: Tensor, *, damping: float) -> Tensor:
        for known, x, (_, d) in zip(vectors, solutions, SOLVED, strict=True):
            for sign in (1, -1):
                if d == damping and torch.allclose(V, sign * known, rtol=_CLOSE, atol=_CLOSE):
                    return (sign * x).to(V)
        raise answer.bad("asked to solve for another vector than the question's")

    return solve
