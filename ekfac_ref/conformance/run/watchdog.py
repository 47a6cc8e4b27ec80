"""What ends a run that nothing else ends: a subject that hangs and takes no alarm.

``at_most`` raises an exception between two steps of Python. A subject that blocks the signal, or
catches everything, or never comes back from one call into C goes on. A thread of its own sees that,
has what is known so far written down, and ends the process.

It cannot help against a call that also keeps the interpreter's lock: then no Python runs at all,
neither here. Such a process has to be ended from outside (``timeout 1h ekfac-ref check ...``).
"""

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ekfac_ref.conformance.run.time_limit import at_most
from ekfac_ref.conformance.run.verdicts import Trouble
from ekfac_ref.question.problem import Problem

EXIT_CODE = 3  # the subject gives no answer
GRACE = 5.0  # seconds, at least: an alarm may take a while to come through
STEP = 0.2  # seconds from one look to the next


@dataclass(eq=False)
class _Busy:
    """A problem that the subject is busy with, and how many seconds it has left in all."""

    problem: Problem
    allowed: float
    left: float
    thread: int


class Watchdog:
    """Keeps the time while it watches; its ``limit`` is what a ``Run`` takes.

    For the command line, since it ends the whole process.

    Args:
        last_report: writes the report of what is known so far and of this trouble.
    """

    def __init__(self, last_report: Callable[[Trouble], None]) -> None:
        self._last_report = last_report
        self._busy: _Busy | None = None
        # Once it reports it keeps this: a subject that comes back too late waits for the end here.
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Keep watch while the block runs. Can be used once."""
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()

    @contextlib.contextmanager
    def limit(self, seconds: float, problem: Problem) -> Iterator[None]:
        """First the alarm of ``at_most``; then, after as long again, the end."""
        allowed = seconds + max(seconds, GRACE)
        self._set(_Busy(problem, allowed, allowed, threading.get_ident()))
        try:
            with at_most(seconds):
                yield
        finally:
            self._set(None)

    def _set(self, busy: _Busy | None) -> None:
        with self._lock:
            self._busy = busy

    def _watch(self) -> None:
        while not self._done.wait(STEP):
            with self._lock:
                busy = self._busy
                if busy is None:
                    continue
                # Its own steps, not a clock's: while the process is stopped, nobody is late.
                busy.left -= STEP
                if busy.left <= 0:
                    self._end(busy)

    def _end(self, busy: _Busy) -> None:
        """Whatever happens to the report, the process ends."""
        what = f"it took more than {busy.allowed:g} s and could not be interrupted"
        try:
            self._last_report(Trouble(what, _stack(busy.thread), busy.problem))
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(EXIT_CODE)


def _stack(thread: int) -> str:
    """Where the thread is at this moment."""
    frame = sys._current_frames().get(thread)
    lines = traceback.format_stack(frame) if frame else []
    return "".join(["Where it hangs (most recent call last):\n", *lines])
