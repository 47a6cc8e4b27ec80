"""Whose exception is it? What a subject raises is an answer of its own; all else is the kit's.

Every call into the subject goes through here: the questions, and every method and attribute of the
operators that it answers with. What passes is remembered, so that no traceback has to be guessed at
(the kit's own examples and mutants are subjects, too).
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.question.problem import Problem

TEXT = 2_000  # characters of a message that are kept
TRACE = 20_000  # of a traceback
# What the kit cannot be blamed for, wherever it shows: memory and settings are the process's.
_SURROUNDINGS = (MemoryError, RecursionError, Warning)


class Raised:
    """What a subject has raised.

    ``tell`` is told when the subject is asked for something, and when it has answered.
    """

    def __init__(self) -> None:
        self._errors: list[BaseException] = []
        self.tell: Callable[[bool], None] | None = None

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Around a call into the subject."""
        if self.tell:
            self.tell(True)
        try:
            yield
        except BaseException as error:
            self._errors.append(error)
            raise
        finally:
            if self.tell:
                self.tell(False)

    def has(self, error: BaseException) -> bool:
        """Whether it came from the subject, or from what the process is left with by it."""
        return isinstance(error, _SURROUNDINGS) or any(error is one for one in self._errors)

    def subject(self, subject: Subject) -> Subject:
        """A copy of the subject from which nothing comes unnoticed."""
        watched: dict[str, Any] = {
            way: self._operators(ask) for way, ask in subject.operators.items()
        }
        watched |= {way: self._tensors(ask) for way, ask in subject.tensors.items()}
        if subject.precondition is not None:
            watched["precondition"] = self._tensors(subject.precondition)
        if subject.fisher_product is not None:
            watched["fisher_product"] = self._tensors(subject.fisher_product)
        return replace(subject, **watched)

    def _operators(self, ask: Ask) -> Ask:
        def answer(problem: Problem) -> Answer:
            self._errors.clear()
            with self.passing():
                found = ask(problem)
                if not hasattr(found, "keys"):
                    return found
                return {name: _Operator(self, one) for name, one in _items(found)}

        return answer

    def _tensors(self, ask: Callable[..., Answer]) -> Callable[..., Answer]:
        def answer(problem: Problem, *given: Any) -> Answer:
            with self.passing():
                found = ask(problem, *given)
                return dict(_items(found)) if hasattr(found, "keys") else found

        return answer


def _items(answer: Any) -> list[tuple[str, Any]]:
    """What is in a dict, or in what looks like one; its keys can be sorted, like names."""
    return [(name, answer[name]) for name in sorted(answer.keys())]


class _Operator:
    """An operator whose attributes and methods are watched."""

    def __init__(self, raised: Raised, thing: Any) -> None:
        self._raised, self._thing = raised, thing

    def __getattr__(self, name: str) -> Any:
        with self._raised.passing():
            found = getattr(self._thing, name)
            if name == "blocks":
                return tuple(_Operator(self._raised, one) for one in found)
            callable_ = callable(found) and not isinstance(found, Tensor)
        if not callable_:
            return found

        def method(*arguments: Any, **named: Any) -> Any:
            with self._raised.passing():
                return found(*arguments, **named)

        return method


def message(error: BaseException, length: int = TEXT) -> str:
    """Type and text, as far as it can be told: a text may itself raise, or be endless."""
    name = type(error).__name__
    try:
        return cut(f"{name}: {error}", length)
    except BaseException as other:
        return f"{name}, whose text cannot be told (it raised {type(other).__name__})"


def place(error: BaseException) -> str:
    """(file, line), where the exception came from; "" where that is not known."""
    try:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f" ({Path(frame.filename).name}, line {frame.lineno})"
    except BaseException:
        return ""


def traceback_of(error: BaseException) -> str:
    """The traceback as Python prints it, no longer than TRACE."""
    try:
        return cut("".join(traceback.format_exception(error)), TRACE)
    except BaseException:
        return ""


def cut(text: str, length: int) -> str:
    """The text, the middle of it left out where it is longer than that."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters ...] {text[-half:]}"
