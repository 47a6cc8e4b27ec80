"""A time limit on what a subject does about one problem."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.question.problem import Problem


class TookTooLong(BaseException):  # no Exception: a subject that catches those must not hang on
    """A subject did not answer within the time limit."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TookTooLong where the block runs longer; on the main thread, where there are alarms.

    It comes between two steps of Python: a single call into C is not cut short (whoever waits
    for another process does that, ``process/apart.py``). Where it comes inside a destructor or
    the callback of a weak reference, Python drops it; then it comes again a second later.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or not hasattr(signal, "setitimer"):
        yield
        return

    def alarm(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"it took more than {seconds:g} s")

    hook = sys.unraisablehook
    sys.unraisablehook = _but_the_alarm(hook)
    handler = signal.signal(signal.SIGALRM, alarm)
    # Again every second, for a subject that catches everything.
    timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, handler)
        sys.unraisablehook = hook


def _but_the_alarm(
    told: Callable[["sys.UnraisableHookArgs"], object],
) -> Callable[["sys.UnraisableHookArgs"], None]:
    """What tells of exceptions that Python had to drop, silent about the alarm: it comes again."""

    def tell(dropped: "sys.UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, TookTooLong):
            told(dropped)

    return tell


def limited(subject: Subject, seconds: float) -> Subject:
    """A copy of the subject that has so many seconds for every answer."""

    def within(ask: Ask) -> Ask:
        def answer(problem: Problem) -> Answer:
            with at_most(seconds):
                return ask(problem)

        return answer

    return subject.wrapped(within)
