"""A subject, a number of problems, all laws: the run behind every way in."""

import contextlib
import io
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from hypothesis import Phase, find, settings
from hypothesis.errors import FlakyFailure, NoSuchExample

from ekfac_ref.conformance.draw import QUIET, draw_problems, questions
from ekfac_ref.conformance.lawbook import LAWS, Law
from ekfac_ref.conformance.subject import Subject
from ekfac_ref.conformance.tolerance import LawBroken
from ekfac_ref.conformance.trial import BadAnswer, Trial
from ekfac_ref.conformance.verdicts import Report, Status, Trouble, Verdict
from ekfac_ref.problem import Problem


@dataclass(frozen=True)
class Profile:
    """How much is asked.

    Attributes:
        name: of the profile.
        problems: drawn.
        shrink_seconds: for each broken law, to find a smaller problem.
    """

    name: str
    problems: int
    shrink_seconds: float


PROFILES = {
    p.name: p for p in (Profile("demo", 12, 1), Profile("quick", 60, 3), Profile("full", 400, 20))
}


@dataclass(eq=False)
class _Tally:
    """One law while a run goes on."""

    law: Law
    asked: int = 0
    offered: bool = False
    worst: float = 0.0
    broken: str = ""
    problem: Problem | None = None

    def ask(self, trial: Trial) -> None:
        """Ask the law of one trial; a broken law keeps its first problem."""
        self.offered |= self.law.offered(trial)
        try:
            ratios = list(self.law.ask(trial))
        except LawBroken as error:
            self.asked += 1
            if not self.broken:
                self.broken, self.problem = str(error), trial.problem
            return
        self.asked += bool(ratios)
        self.worst = max([self.worst, *ratios])

    def verdict(self, known: Mapping[str, str]) -> Verdict:
        """With a known deviation, strictly: if it holds after all, that is a failure too."""
        reason = known.get(self.law.name, "")
        if not self.offered:
            status = Status.NOT_OFFERED
        elif self.broken:
            status = Status.EXPECTED_FAILURE if reason else Status.FAIL
        elif not self.asked:
            status = Status.INCONCLUSIVE
        else:
            status = Status.UNEXPECTED_PASS if reason else Status.PASS
        return Verdict(self.law, status, self.asked, self.worst, self.broken, self.problem, reason)


@dataclass(eq=False)
class Run:
    """A run that can be interrupted at any problem and still makes a report."""

    subject: Subject
    profile: Profile
    seed: int = 0
    laws: Sequence[Law] = LAWS
    known: Mapping[str, str] = field(default_factory=dict)
    tick: Callable[[str], None] = lambda what: None

    def report(self) -> Report:
        """Draw, ask, shrink."""
        tallies = [_Tally(law) for law in self.laws]
        troubles: list[Trouble] = []
        printed = io.StringIO()
        answered, complete = 0, True
        problems = draw_problems(self.subject.abilities, self.profile.problems, self.seed)
        try:
            with contextlib.redirect_stdout(printed):
                for problem in problems:
                    self.tick("problem")
                    trouble = _ask_all(Trial(self.subject, problem), tallies)
                    troubles += [trouble] if trouble else []
                    answered += trouble is None
                for tally in tallies:
                    if tally.broken:
                        self.tick("smaller problem")
                        self._shrink(tally)
        except KeyboardInterrupt:
            complete = False
        return Report(
            self.subject.name,
            self.profile.name,
            self.seed,
            [tally.verdict(self.known) for tally in tallies],
            troubles,
            len(problems),
            answered + len(troubles),
            printed.getvalue(),
            complete,
        )

    def _shrink(self, tally: _Tally) -> None:
        """The smallest problem that breaks the law, as far as the time goes."""
        end = time.monotonic() + self.profile.shrink_seconds

        def breaks(problem: Problem) -> bool:
            if time.monotonic() > end:
                return False
            try:
                list(tally.law.ask(Trial(self.subject, problem)))
            except LawBroken as error:
                tally.broken, tally.problem = str(error), problem  # every next one is smaller
                return True
            except Exception:  # another trouble than the one looked for
                return False
            return False

        options = settings(QUIET, max_examples=200, phases=[Phase.generate, Phase.shrink])
        with contextlib.suppress(NoSuchExample, FlakyFailure):  # flaky: the time was over
            find(
                questions(self.subject.abilities),
                breaks,
                settings=options,
                random=Random(self.seed),
            )


def _ask_all(trial: Trial, tallies: list[_Tally]) -> Trouble | None:
    try:
        for tally in tallies:
            tally.ask(trial)
    except BadAnswer as error:
        return Trouble(str(error), "", trial.problem)
    except Exception as error:
        what = f"it raised {type(error).__name__}: {error}"
        return Trouble(what, traceback.format_exc(), trial.problem)
    return None


def check(subject: Subject, profile: Profile, seed: int = 0) -> Report:
    """All laws, on as many problems as the profile says."""
    return Run(subject, profile, seed).report()
