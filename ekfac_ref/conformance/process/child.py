"""The process that the subject is in: reads questions, asks them, writes what came of it.

Questions and answers are lines of JSON on descriptors of their own. What the subject knows as
stdin is empty, what it knows as stdout and stderr is read by the parent for the report.
"""

import contextlib
import faulthandler
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.own_model.load_problem import load_problem
from ekfac_ref.conformance.own_model.mistaken import MistakenProblem
from ekfac_ref.conformance.own_model.own_examiner import OwnHere
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.process import own_wire, wire
from ekfac_ref.conformance.process.surroundings import Functions, Settings
from ekfac_ref.conformance.reports.furthest import furthest
from ekfac_ref.conformance.run.examiner import Found
from ekfac_ref.conformance.run.kept import Kept
from ekfac_ref.conformance.run.load import load
from ekfac_ref.conformance.run.raised import message
from ekfac_ref.conformance.run.time_limit import TookTooLong, at_most
from ekfac_ref.errors import ProblemError

Request = dict[str, Any]
_THREADS = torch.get_num_threads()
# Taken before the subject is imported, which may put others in their place.
_exit, _getpid, _write, _encode = os._exit, os.getpid, os.write, json.JSONEncoder().encode


def answer_all(subject: str, seconds: float, crash: str) -> None:
    """Answer questions about a subject until there are no more.

    Args:
        subject: its path, as ``load`` takes it.
        seconds: for its import, and for every problem.
        crash: a file that tells where it was when the process ended, or had to be ended.
    """
    requests, replies = _own_descriptors()
    pid, said = _getpid(), os.open(crash, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    faulthandler.enable(said)
    torch.set_num_threads(1)  # the matrices are small: more threads would wait for one another

    def reply(plain: Request) -> None:
        if _getpid() != pid:  # the subject has forked, and its copy has come back
            _exit(0)
        data = (_encode(plain) + "\n").encode()
        while data:
            data = data[_write(replies, data) :]

    def late(limit: float) -> None:
        faulthandler.dump_traceback_later(limit, file=said)

    plain, functions = Settings(), Functions()
    reply({"ready": True})
    late(seconds + max(seconds, 5.0) - 0.5)
    if (there := _loaded(subject, seconds)) is None or isinstance(there, str):
        reply({"refused": there})
        return
    faulthandler.cancel_dump_traceback_later()
    examiner = _Examiner(there, seconds, subject)
    reply({"subject": examiner.name, "replaced": functions.replaced()})
    settings = Settings()
    for line in requests:
        request = json.loads(line)
        late(request["limit"] - 0.5)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawing = request["do"] == "draw"
                (plain if drawing else settings).put_back()  # problems are the same for all
                done = examiner.do(request, reply)
            settings.put_back()
        except BaseException as error:  # none that comes from the subject gets here
            done = examiner.failed(error)
        faulthandler.cancel_dump_traceback_later()
        reply(done | {"replaced": functions.replaced()})


def _own_descriptors() -> tuple[io.TextIOWrapper, int]:
    """(requests, replies): what were stdin and stdout; the subject gets nothing and stderr."""
    requests, replies = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.argv[:] = ["ekfac-ref"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return requests, replies


def _loaded(subject: str, seconds: float) -> Any:
    """The subject; or a text that says why there is none."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with at_most(seconds):
            return load(subject)
    except ProblemError as error:
        return str(error)
    except TookTooLong as error:
        return f"subject {subject!r}: {error} to import its module"
    except BaseException as error:  # a SystemExit, say
        return f"subject {subject!r}: its module exits when imported ({message(error)})"


class _Examiner(OwnHere):
    """Asks as in any process; nobody but the subject raises a KeyboardInterrupt here."""

    interrupt = ()

    def do(self, request: Request, reply: Callable[[Request], None]) -> Request:
        """What came of one request, as plain data."""
        what = request["do"]
        if what == "draw":
            return self._drawn(request)
        if what == "look":
            return self._seen(request)
        if what in ("begin", "measure", "answer", "judge"):
            return self._of_own(what, request, reply)
        if what == "recall":
            self.ask(Written(request["problem"]), [LAWS["trace"]])  # which needs all answers
            return {}
        return wire.found_as_plain(self._found(what, request, reply))

    def failed(self, error: BaseException) -> Request:
        """What has gone wrong beside a question, by the kit's own fault."""
        return wire.found_as_plain(Found(trouble=self._trouble(error, None, "")))

    def _found(self, what: str, request: Request, reply: Callable[[Request], None]) -> Found:
        if what == "ask":
            return self.ask(Written(request["problem"]), [LAWS[law] for law in request["laws"]])
        if what == "blind":
            return self.blind([LAWS[law] for law in request["laws"]], Written(request["problem"]))
        if what == "shrink":
            small = [Written(text) for text in request["small"]]
            start, law = wire.broken_from(request["start"]), LAWS[request["law"]]
            seconds, seed, where = (
                request["seconds"],
                request["seed"],
                wire.where_from(request["where"]),
            )
            return self.shrink(law, start, seconds, seed, small, where)
        self.raised.tell = lambda busy: reply({"busy": busy})
        try:
            problems = [Written(text) for text in request["problems"]]
            return self.diagnose(request["seed"], problems)
        finally:
            self.raised.tell = None

    def _of_own(self, what: str, request: Request, reply: Callable[[Request], None]) -> Request:
        """A step with a problem of the user's own, by as many threads as torch would take."""
        torch.set_num_threads(_THREADS)
        if what == "begin":
            return self._begun(request)
        if what == "measure":
            return own_wire.opened_as_plain(self.measure_own(lambda: reply({"busy": True})))
        if what == "answer":
            return own_wire.asked_as_plain(self.ask_own())
        return own_wire.judged_as_plain(self.judge_own(request["number"], request["laws"]))

    def _begun(self, request: Request) -> Request:
        try:
            path, seed = request["problem"], request["seed"]
            return {"passes": self.begin(load_problem(path), seed, path)}
        except MistakenProblem as error:
            return {"mistaken": str(error)}
        except ProblemError as error:
            return {"refused": str(error)}

    def _drawn(self, request: Request) -> Request:
        try:
            return wire.drawn_as_plain(self.draw(request["count"], request["seed"]))
        except ProblemError as error:
            return {"refused": str(error)}

    def _seen(self, request: Request) -> Request:
        def look() -> Request:
            with at_most(self.seconds):
                problem = Written(request["problem"])
                return wire.furthest_as_plain(
                    furthest(self.subject, problem, Lane[request["lane"]])
                )

        found, trouble = self._tried(look, None, Kept(0))
        return {"seen": found, "trouble": trouble and trouble.what}

    @contextlib.contextmanager
    def _heard(self, keep: bool = True) -> Iterator[Kept]:
        """Nothing is caught here: the parent reads all that is written."""
        yield Kept(0)
