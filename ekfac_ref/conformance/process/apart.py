"""Asks a subject in a process of its own, and outlives whatever becomes of that.

The process is started anew, never forked, and again after the subject has ended it or had to be
stopped. Then it is asked once more about the last problem that it answered, so that one which keeps
something from problem to problem has something to keep; problems come as texts, and are the same
ones.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.drawn_problems import DrawnProblems
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.laws.law import Lane, Law
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.process import wire
from ekfac_ref.conformance.process.running import FOREIGN, KIT, Lost, Running
from ekfac_ref.conformance.process.wire import Plain
from ekfac_ref.conformance.reports.furthest import Furthest
from ekfac_ref.conformance.run.examiner import Found
from ekfac_ref.conformance.run.kept import PRINTED, Kept
from ekfac_ref.conformance.run.raised import cut
from ekfac_ref.conformance.run.tally import Broken
from ekfac_ref.errors import ProblemError

_T = TypeVar("_T")
TOLD = ("draw", "ask", "diagnose", "begin", "measure", "answer", "judge")
GRACE = 5.0  # seconds, at least, until one that takes no alarm is stopped


class Apart:
    """Asks the subject at a path; see ``Examiner``. To be closed.

    Args:
        path: as ``load`` takes it.
        seconds: for its import, and for all laws on one problem.
    """

    apart = True

    def __init__(self, path: str, seconds: float = 60.0) -> None:
        self.name, self._path, self._seconds = path, path, seconds
        self._all, self._heard = Kept(PRINTED), Kept(PRINTED)
        self._process: Running | None = None
        self._started, self._last = False, ""
        self._folder = tempfile.TemporaryDirectory(prefix="ekfac-ref-")

    @property
    def printed(self) -> str:
        """What it wrote to stdout and stderr so far."""
        return str(self._all)

    def close(self) -> None:
        """End the process, and leave nothing behind."""
        if process := self._process:
            self._process = None
            process.farewell()
        self._folder.cleanup()

    def draw(self, count: int, seed: int) -> DrawnProblems:
        """As the process draws them; ProblemError where there is no such subject."""

        def drawn(plain: Plain) -> DrawnProblems:
            if "refused" in plain:
                raise ProblemError(str(plain["refused"]))
            if "problems" in plain:
                return wire.drawn_from(plain)
            return DrawnProblems(trouble=wire.found_from(plain, None, "").trouble)

        found, trouble = self._asked({"do": "draw", "count": count, "seed": seed}, drawn)
        return found or DrawnProblems(trouble=trouble)

    def ask(self, problem: Written, laws: Sequence[Law]) -> Found:
        """All or nothing: where the process is lost, no law has been asked."""
        found = self._found({"do": "ask", "problem": problem.text, **_names(laws)}, problem)
        if found.trouble:
            return found
        if [said.law for said in found.said] != [law.name for law in laws]:
            return Found(trouble=Trouble(FOREIGN, "", problem, str(self._heard), Blame.LOST))
        self._last = problem.text
        return found

    def shrink(
        self,
        law: Law,
        start: Broken,
        seconds: float,
        seed: int,
        small: Sequence[Written],
        where: Conjunction,
    ) -> Found:
        """In the time that it takes, and a second more."""
        request: Plain = {"do": "shrink", "law": law.name, "start": wire.broken_as_plain(start)}
        request |= {"seconds": seconds, "seed": seed, "small": [one.text for one in small]}
        request["where"] = wire.where_as_plain(where)
        return self._found(request, None, seconds + 1.0)

    def blind(self, laws: Sequence[Law], problem: Written) -> Found:
        """All of the laws, where it is lost: then nothing is known of them."""
        found = self._found({"do": "blind", "problem": problem.text, **_names(laws)}, problem)
        if not found.trouble:
            return found
        return Found(blind=[law.name for law in laws], trouble=found.trouble)

    def diagnose(self, seed: int, problems: Sequence[Written] = ()) -> Found:
        """With the time of one problem for every single answer."""
        texts = [problem.text for problem in problems]
        return self._found({"do": "diagnose", "seed": seed, "problems": texts}, None)

    def look(self, problem: Written, lane: Lane) -> Furthest | str:
        """The layer that is furthest off on the problem; or why nobody knows."""

        def seen(plain: Plain) -> Furthest | str:
            found = plain.get("seen")
            return wire.furthest_from(found) if found else f"asked once more, {plain['trouble']}"

        request = {"do": "look", "problem": problem.text, "lane": lane.name}
        found, trouble = self._asked(request, seen)
        return found or f"asked once more, {trouble.what if trouble else 'it said nothing'}"

    def _found(self, request: Plain, problem: Written | None, seconds: float = 0.0) -> Found:
        found, trouble = self._asked(
            request, lambda plain: wire.found_from(plain, problem, str(self._heard)), seconds
        )
        if trouble:
            return Found(trouble=Trouble(*_told(trouble, problem)))
        assert found
        return found

    def _asked(
        self, request: Plain, read: Callable[[Plain], _T], seconds: float = 0.0
    ) -> tuple[_T | None, Trouble | None]:
        """What can be read from the reply; or a trouble."""
        self._heard = Kept(PRINTED)
        seconds = seconds or self._seconds
        limit = KIT if request["do"] == "draw" else _limit(seconds)  # nobody else does that
        try:
            plain = self._there().reply({**request, "limit": limit}, limit)
            if request["do"] in TOLD:  # the others have been heard before
                self._all.write(str(self._heard))
            _trusted(plain)
            return read(plain), None
        except Lost as lost:
            what = str(lost)
        except ProblemError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError):
            what = FOREIGN
        except KeyboardInterrupt:  # what it may still reply is none to the next question
            self._drop()
            raise
        trace = self._process.trace() if self._process else ""
        self._all.write(str(self._heard))
        self._drop()
        return None, Trouble(what, trace, None, str(self._heard), Blame.LOST)

    def _drop(self) -> None:
        if process := self._process:
            self._process = None
            process.kill()

    def _there(self) -> Running:
        """The process; another one, that has been asked before, if it is lost."""
        if self._process is None:
            self._process = self._start()
            if self._last:
                limit = _limit(self._seconds)
                try:
                    self._process.reply(
                        {"do": "recall", "problem": self._last, "limit": limit}, limit
                    )
                except Lost:
                    self._process = self._start()
        self._process.heard = self._heard
        return self._process

    def _start(self) -> Running:
        storage = {"HYPOTHESIS_STORAGE_DIRECTORY": self._folder.name}
        crash = Path(self._folder.name) / "crash.txt"
        process = self._process = Running.started(
            [self._path, repr(self._seconds)], crash, storage, self._heard
        )
        process.reply(None, KIT)
        try:
            plain = process.reply(None, _limit(self._seconds))
        except Lost as lost:
            raise Lost(f"{lost} when it was imported") from None
        if "refused" in plain:
            if not self._started:
                raise ProblemError(str(plain["refused"]))
            raise Lost(str(plain["refused"]))
        _trusted(plain)
        self._started, self.name = True, cut(str(plain["subject"]), 200)
        return process


def _limit(seconds: float) -> float:
    return seconds + max(seconds, GRACE)


def _names(laws: Sequence[Law]) -> Plain:
    return {"laws": [law.name for law in laws]}


def _told(trouble: Trouble, problem: Written | None) -> tuple[Any, ...]:
    return trouble.what, trouble.traceback, problem, trouble.printed, trouble.blame


def _trusted(plain: Plain) -> None:
    if name := plain["replaced"]:
        raise Lost(
            f"it replaced {name}, which the kit computes with: nothing that is said afterwards can "
            "be trusted"
        )
