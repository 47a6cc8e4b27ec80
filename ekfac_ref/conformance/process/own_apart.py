"""Asks a subject about a problem of the user's own in a process of its own, step by step.

All that is known stays in that process. Where it is lost, the run is at its end.
"""

from collections.abc import Callable, Collection
from typing import TypeVar

from ekfac_ref.conformance.findings.verdicts import Trouble
from ekfac_ref.conformance.own_model.mistaken import MistakenProblem
from ekfac_ref.conformance.own_model.own_examiner import AskedOnce, JudgedPart, Opened
from ekfac_ref.conformance.process import own_wire
from ekfac_ref.conformance.process.apart import Apart
from ekfac_ref.conformance.process.wire import Plain
from ekfac_ref.errors import ProblemError

_T = TypeVar("_T")
DAY = 86_400.0  # seconds for what the kit computes; nothing of the subject's runs then


class OwnApart(Apart):
    """Asks the subject at a path about the problem at another one; see ``OwnExaminer``."""

    def begin(self, problem: str, seed: int) -> int:
        """Load both; returns the number of passes that ``measure_own`` takes.

        Raises:
            MistakenProblem: the problem is not there, or none for this.
            ProblemError: the subject is not there, or none for this.
            RuntimeError: the kit itself has failed.
        """

        def passes(plain: Plain) -> int:
            if "mistaken" in plain:
                raise MistakenProblem(str(plain["mistaken"]))
            if "refused" in plain:
                raise ProblemError(str(plain["refused"]))
            if "trouble" in plain:
                raise RuntimeError("\n".join(map(str, plain["trouble"][:2])))
            return int(plain["passes"])

        found, trouble = self._asked({"do": "begin", "problem": problem, "seed": seed}, passes, DAY)
        if found is None:
            raise ProblemError(f"problem {problem!r}: {trouble.what if trouble else 'no answer'}.")
        return found

    def measure_own(self, tick: Callable[[], None]) -> Opened:
        """What is right; ``tick`` is called after every pass over the data."""
        self._there().told = lambda plain: tick()
        try:
            found, trouble = self._step({"do": "measure"}, own_wire.opened_from, DAY)
        finally:
            if self._process:
                self._process.told = None
        return found or Opened(trouble=trouble)

    def ask_own(self) -> AskedOnce:
        """Have the subject answer the one question."""
        found, trouble = self._step({"do": "answer"}, own_wire.asked_from)
        return found or AskedOnce(trouble=trouble)

    def judge_own(self, number: int, laws: Collection[str]) -> JudgedPart:
        """What the laws say of a block; nothing where the process is lost meanwhile."""
        request: Plain = {"do": "judge", "number": number, "laws": list(laws)}
        found, trouble = self._step(request, own_wire.judged_from)
        return found or JudgedPart(trouble=trouble)

    def _step(
        self, request: Plain, read: Callable[[Plain, str], _T], seconds: float = 0.0
    ) -> tuple[_T | None, Trouble | None]:
        return self._asked(request, lambda plain: read(plain, str(self._heard)), seconds)
