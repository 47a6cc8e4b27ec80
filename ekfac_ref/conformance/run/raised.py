"""Whose exception is it? What a subject raises is an answer of its own; all else is the kit's.

Every call into the subject goes through here: the questions, and every method and attribute of the
operators that it answers with. What passes is remembered, so that no traceback has to be guessed at
(the kit's own examples and mutants are subjects, too).
"""

import contextlib
import dis
import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.conformance.training.steps import Optimize
from ekfac_ref.question.problem import Problem

TEXT = 2_000  # characters of a message that are kept
TRACE = 20_000  # of a traceback
# What the kit cannot be blamed for, wherever it shows: memory and settings are the process's.
_SURROUNDINGS = (MemoryError, RecursionError, Warning)
# As a slip of the pen makes them. A library may raise them to refuse, too.
_SLIPS: tuple[type[Exception], ...] = (AttributeError, NameError, TypeError, ImportError)
_SLIPS += (LookupError, ArithmeticError, StopIteration)
DEEP = 4  # functions in a function's closure, in theirs, and so on


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

    def refuses(self, error: BaseException, own: Collection[str]) -> bool:
        """Whether the subject declines the question, rather than that its adapter has crashed.

        ``own`` are the adapter's files. A crash is an exception as a slip of the pen makes one (a
        name that is none, a wrong key or type), in a line of these files that does not raise it on
        purpose; whatever comes where the kit looks at an answer; and the end of a stack or memory.
        """
        if not isinstance(error, Exception) or isinstance(error, _SURROUNDINGS[:2]):
            return False
        last = _last(error)
        if last is None or not any(error is one for one in self._errors):
            return False
        return last.tb_frame.f_code.co_filename != __file__ and not self.crashed(error, own)

    def crashed(self, error: BaseException, own: Collection[str]) -> bool:
        """Whether it is a slip of the pen in the adapter's own files."""
        last = _last(error)
        return (
            last is not None
            and isinstance(error, _SLIPS)
            and last.tb_frame.f_code.co_filename in own
            and not _on_purpose(last)
        )

    def subject(self, subject: Subject) -> Subject:
        """A copy of the subject from which nothing comes unnoticed."""
        watched: dict[str, Any] = {
            way: self._operators(ask)
            for way, ask in (*subject.operators.items(), *subject.sampled.items())
        }
        watched |= {way: self._tensors(ask) for way, ask in subject.tensors.items()}
        if subject.precondition is not None:
            watched["precondition"] = self._tensors(subject.precondition)
        if subject.fisher_product is not None:
            watched["fisher_product"] = self._tensors(subject.fisher_product)
        if subject.optimizer is not None:
            watched["optimizer"] = self._steps(subject.optimizer)
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

    def _steps(self, optimizer: Optimize) -> Optimize:
        def optimize(problem: Problem, settings: Hyperparameters) -> Any:
            with self.passing():
                steps = optimizer(problem, settings)
            return self._each(iter(steps)) if isinstance(steps, Iterable) else steps

        return optimize

    def _each(self, steps: Iterator[Any]) -> Iterator[None]:
        while True:
            with self.passing():
                if next(steps, self) is self:
                    return
            yield

    def _tensors(self, ask: Callable[..., Answer]) -> Callable[..., Answer]:
        def answer(problem: Problem, *given: Any) -> Answer:
            with self.passing():
                found = ask(problem, *given)
                return dict(_items(found)) if hasattr(found, "keys") else found

        return answer


def _items(answer: Any) -> list[tuple[str, Any]]:
    """What is in a dict, or in what looks like one, in the order of its names, or of other keys."""
    return [(name, answer[name]) for name in sorted(answer.keys(), key=str)]


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


def own_files(subject: Subject, path: str = "") -> set[str]:
    """The files that an adapter is written in.

    That of the module, where the subject was loaded by its path; or else those in which what it is
    asked by is defined, also where the kit has wrapped that.
    """
    module = sys.modules.get(path.partition(":")[0])
    if path and (file := getattr(module, "__file__", None)):
        return {file}
    return set().union(*(_files(getattr(subject, way), 0) for way in subject.ways))


def _files(thing: Any, depth: int) -> set[str]:
    """Of a callable, and of what it keeps where that is one."""
    thing = inspect.unwrap(getattr(thing, "func", thing))  # a partial's, a decorated one's
    thing = getattr(thing, "__func__", thing)
    if not inspect.isfunction(thing):  # an object that can be called
        thing = vars(type(thing)).get("__call__")
    found = {thing.__code__.co_filename} if inspect.isfunction(thing) else set()
    for cell in getattr(thing, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # an empty one
            if callable(cell.cell_contents) and depth < DEEP:
                found |= _files(cell.cell_contents, depth + 1)
    return found


def _last(error: BaseException) -> TracebackType | None:
    """The frame in which it was raised."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last


def _on_purpose(where: TracebackType) -> bool:
    """Whether the line is one of ``raise``."""
    return where.tb_frame.f_code.co_code[where.tb_lasti] == dis.opmap["RAISE_VARARGS"]


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
