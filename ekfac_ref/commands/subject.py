"""The subject that a command is given, found and imported with care."""

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

import torch

from ekfac_ref.conformance.reports.terminal import one_line
from ekfac_ref.conformance.run.load import load
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.errors import ProblemError


def with_subject(path: str, command: Callable[[Subject, io.StringIO], int]) -> int:
    """The command's exit code, given the subject and what it printed when it was imported.

    3 if there is no such subject.
    """
    try:
        subject, said = loaded(path)
    except ProblemError as error:
        return refuse(str(error), 3)
    printed = io.StringIO()
    printed.write(said)
    return command(subject, printed)


def loaded(path: str) -> tuple[Subject, str]:
    """The subject, imported into this process, and what it printed meanwhile.

    Raises:
        ProblemError: there is no such subject.
    """
    torch.set_num_threads(1)  # the matrices are small: more threads would wait for one another
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            return load(path), printed.getvalue()
    except SystemExit as error:
        raise ProblemError(f"subject {path!r}: its module exits when imported ({error})") from error


class Unbroken(io.StringIO):
    """A stream to tell things beside the report, which does not end if nobody listens any more."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        """To the stream, if that takes it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


def refuse(what: str, code: int) -> int:
    """One line on stderr; returns the exit code."""
    print(f"ekfac-ref: {one_line(what, 2000)}", file=Unbroken(sys.stderr))
    return code
