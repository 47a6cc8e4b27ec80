"""One process with a subject in it: requests to it, replies from it, and how it ends."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ekfac_ref.conformance.process.wire import Plain
from ekfac_ref.conformance.run.kept import Kept
from ekfac_ref.conformance.run.raised import TRACE, cut

KIT = 600.0  # seconds for what the kit does alone: to be imported, and to compare in a diagnosis
STEP = 0.2  # seconds from one look at the clock to the next
LONGEST = 1 << 26  # bytes of one reply
FAREWELL = 2.0  # seconds to end in
FOREIGN = "it wrote where the kit's own answers come"
# No import before the path is the parent's, but of what is built in: the folder at hand may have a
# json.py. What torch makes when it is imported is never garbage, and to look through it for some
# again and again takes a fifth of the start.
_START = (
    "import gc, sys; subject, seconds, crash, *sys.path[:] = sys.argv[1:]; gc.disable(); "
    "from ekfac_ref.conformance.process.child import answer_all; gc.freeze(); gc.enable(); "
    "answer_all(subject, float(seconds), crash)"
)


class Lost(Exception):
    """There will be no reply: what has become of the process."""


@dataclass(eq=False)
class Running:
    """A process that runs, and what has been read of it.

    Attributes:
        running: its stdin takes requests, its stdout has replies, its stderr what the subject says.
        crash: a file where it tells what it did last.
        heard: takes what the subject says.
        unread: the beginning of a reply.
        told: is called with every line that is no reply: that it is busy.
    """

    running: "subprocess.Popen[bytes]"
    crash: Path
    heard: Kept
    unread: bytearray = field(default_factory=bytearray)
    told: Callable[[Plain], None] | None = None

    @classmethod
    def started(
        cls, arguments: list[str], crash: Path, environment: dict[str, str], heard: Kept
    ) -> "Running":
        """A fresh interpreter like this one, which finds the same modules, in ``child.py``."""
        path = [folder or os.getcwd() for folder in sys.path]
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        running = subprocess.Popen(
            [sys.executable, *flags, "-u", "-c", _START, *arguments, str(crash), *path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
            start_new_session=True,  # so that an interrupt is this process's, and all can be ended
        )
        return cls(running, crash, heard)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[selectors.BaseSelector]:
        assert self.running.stdout
        assert self.running.stderr
        with selectors.DefaultSelector() as selector:
            for stream in (self.running.stdout, self.running.stderr):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            yield selector

    def reply(self, request: Plain | None, seconds: float) -> Plain:
        """Write the request, if there is one, and wait for its reply.

        Raises:
            Lost: there is none.
        """
        message = b"" if request is None else (json.dumps(request) + "\n").encode()
        left, limit = (KIT, KIT) if request and request["do"] == "diagnose" else (seconds, seconds)
        with self._watched() as selector:
            assert self.running.stdin
            if message:
                os.set_blocking(self.running.stdin.fileno(), False)
                selector.register(self.running.stdin, selectors.EVENT_WRITE)
            while left > 0:
                before = time.monotonic()
                ready = selector.select(STEP)
                if not ready and self.running.poll() is not None:  # a fork of it may go on
                    raise Lost(self._end())
                for key, _ in ready:
                    if key.fileobj is self.running.stdin:
                        message = self._sent(message)
                        if not message:
                            selector.unregister(self.running.stdin)
                    elif not self._read(key.fd):
                        selector.unregister(key.fileobj)
                        if key.fileobj is self.running.stdout:
                            raise Lost(self._end())
                while (line := self._line()) is not None:
                    if "busy" not in line:
                        self._drain()
                        return line
                    left = limit = seconds if line["busy"] else max(KIT, seconds)
                    if self.told:
                        self.told(line)
                # While this process is stopped, nobody is late.
                left -= min(time.monotonic() - before, 1.0)
        self.kill()
        raise Lost(f"it took more than {limit:g} s and could not be interrupted")

    def _sent(self, message: bytes) -> bytes:
        assert self.running.stdin
        try:
            return message[os.write(self.running.stdin.fileno(), message) :]
        except BrokenPipeError:
            raise Lost(self._end()) from None

    def _read(self, descriptor: int) -> bool:
        """Whether there will be more to read."""
        assert self.running.stdout
        try:
            data = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return True
        if descriptor == self.running.stdout.fileno():
            self.unread += data
            if len(self.unread) > LONGEST:
                self.kill()
                raise Lost(FOREIGN)
        else:
            self.heard.write(data.decode(errors="replace"))
        return bool(data)

    def _line(self) -> Plain | None:
        line, end, rest = self.unread.partition(b"\n")
        if not end:
            return None
        self.unread = rest
        try:
            plain = json.loads(line)
            return {**plain}
        except (ValueError, TypeError, RecursionError):
            self.kill()
            raise Lost(FOREIGN) from None

    def _drain(self) -> None:
        """What was written before the reply has been written by now."""
        assert self.running.stderr
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                data = os.read(self.running.stderr.fileno(), 1 << 16)
                if not data:
                    return
                self.heard.write(data.decode(errors="replace"))

    def _end(self) -> str:
        """How it ended, once it does not answer any more."""
        self._drain()
        try:
            code = self.running.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed what the kit's own answers come by"
        self.kill()
        if code >= 0:
            return f"its process ended with exit code {code}"
        if -code == signal.SIGKILL:
            return "its process was ended by SIGKILL, as by a system that runs out of memory"
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process was ended by signal {-code}"

    def trace(self) -> str:
        """Where it was, as far as it could still tell."""
        try:
            return cut(self.crash.read_text(errors="replace"), TRACE)
        except OSError:
            return ""

    def kill(self) -> None:
        """End it with all that it has left behind; once more does no harm."""
        assert self.running.stdout
        if self.running.stdout.closed:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()
        self._drain()
        for stream in (self.running.stdin, self.running.stdout, self.running.stderr):
            assert stream
            with contextlib.suppress(OSError):
                stream.close()

    def farewell(self) -> None:
        """Let it end by itself, within FAREWELL; what it prints at its end is not heard."""
        assert self.running.stdin
        with contextlib.suppress(OSError):
            self.running.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.running.wait(FAREWELL)
        self.kill()
