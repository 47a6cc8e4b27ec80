"""How to have a run again, as a command line; and a run that ends early, by a signal."""

import argparse
import contextlib
import shlex
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def hearing_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as an interrupt does, and not its report."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] is not signal.SIG_IGN]  # as by nohup
    for number in heard:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def command_line(options: argparse.Namespace) -> str:
    """What to type to have the same run again."""
    words = ["ekfac-ref", "check", options.subject]
    if options.problem:
        words += ["--problem", options.problem]
    else:
        words += ["--profile", options.profile]
    words += ["--seed", str(options.seed)]
    words += [word for law in options.law or () for word in ("--law", law)]
    words += ["--max-fail", str(options.max_fail)] if options.max_fail else []
    words += ["--seconds", f"{options.seconds:g}"] if options.seconds else []
    words += ["--known", options.known[0]] if options.known else []
    words += ["--in-process"] if options.in_process else []
    return shlex.join(words)
