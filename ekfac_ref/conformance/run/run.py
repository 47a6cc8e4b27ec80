"""A subject, a number of problems, all laws: the run behind every way in."""

import contextlib
import io
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.digest import digest
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.resolution import blind
from ekfac_ref.conformance.run.shrink import shrink
from ekfac_ref.conformance.run.tally import Broken, Tally
from ekfac_ref.conformance.run.time_limit import Limit, TookTooLong, in_time, limited
from ekfac_ref.conformance.run.verdicts import Report, Trouble
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem

BLUNT = 0.1  # a law that would not notice an error of this size says nothing by holding
SHARPENED = 20  # problems, at most, to find one on which it would


@dataclass(eq=False)
class _Found:
    """A run while it goes on.

    Attributes:
        tallies: of every law.
        problems: drawn; ``answered``, how many of them were.
        troubles: of those that were not.
        printed: what the subject wrote to stdout; up to ``heard``, about earlier problems.
    """

    tallies: list[Tally]
    problems: list[Problem] = field(default_factory=list)
    answered: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    printed: io.StringIO = field(default_factory=io.StringIO)
    heard: int = 0

    def since(self) -> str:
        """What was printed about the last problem."""
        return self.printed.getvalue()[self.heard :]

    def at(self, stuck: Trouble) -> Trouble:
        """With the number of the problem, if it is one of the run's."""
        numbers = [n for n, p in enumerate(self.problems, 1) if p is stuck.problem]
        which = f"problem {numbers[0]} of {len(self.problems)}" if numbers else "another problem"
        return replace(stuck, what=f"{stuck.what}; the run ended at {which}", printed=self.since())


@dataclass(eq=False)
class Run:
    """A run that can be interrupted at any problem and still makes a report.

    Attributes:
        subject: on trial.
        profile: how much is asked.
        seed: of the problems.
        laws: asked of every problem.
        known: reasons of known deviations, by the law's name.
        tick: called before every "problem" and every search for a "smaller problem".
        seconds: for all laws on one problem; see ``time_limit.py``.
        limit: what keeps to so many seconds on a problem; another may look at the problem, too.
    """

    subject: Subject
    profile: Profile
    seed: int = 0
    laws: Sequence[Law] = tuple(LAWS.values())
    known: Mapping[str, str] = field(default_factory=dict)
    tick: Callable[[str], None] = lambda what: None
    seconds: float = 60.0
    limit: Limit = in_time

    def __post_init__(self) -> None:
        self._found = _Found([Tally(law) for law in self.laws])

    @property
    def limited_subject(self) -> Subject:
        """The subject with the time limit on every answer, for questions beside the run's own."""
        return limited(self.subject, self.limit, self.seconds)

    def report(self) -> Report:
        """Draw the problems, ask the laws of each, look for smaller problems that break them."""
        self._found = found = _Found([Tally(law) for law in self.laws])
        try:
            found.problems = draw_problems(self.subject.abilities, self.profile.problems, self.seed)
            with contextlib.redirect_stdout(found.printed):
                for problem in found.problems:
                    self.tick("problem")
                    trouble = self._ask_all(problem)
                    found.troubles += [trouble] if trouble else []
                    found.answered += trouble is None
                    found.heard = found.printed.tell()
            # What is printed here has been printed before.
            with contextlib.redirect_stdout(io.StringIO()):
                small: list[Problem] = []
                for tally in found.tallies:
                    if tally.broken:
                        self.tick("smaller problem")
                        small += self._shrink(tally, tally.broken, small)
                self._find_blunt()
        except KeyboardInterrupt:
            return self.so_far()
        return replace(self.so_far(), complete=True)

    def diagnosed(self, report: Report) -> Report:
        """The report with the name of the mistake, where the subject does not conform.

        That asks about many more problems; whatever happens there, the verdict is not lost.
        """
        if report.exit_code != 1:
            return report
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                sentence = diagnose(self.limited_subject, seed=self.seed).sentence
        except KeyboardInterrupt:
            sentence = "none, it was interrupted."
        except BaseException as error:  # whatever a subject may raise
            sentence = f"none, on another problem it raised {type(error).__name__}: {error}"
        return replace(report, diagnosis=sentence, printed=report.printed + printed.getvalue())

    def so_far(self, stuck: Trouble | None = None) -> Report:
        """The report of a run that ends here, for good or because the subject is stuck; it may be
        called by another thread.
        """
        found = self._found
        troubles = [*found.troubles, *([found.at(stuck)] if stuck else [])]
        problems = len(found.problems) or self.profile.problems
        return Report(
            self.subject.name,
            self.profile.name,
            self.seed,
            [tally.verdict(self.known) for tally in found.tallies],
            troubles,
            problems,
            min(found.answered + len(troubles), problems),  # one may be stuck after the last
            found.printed.getvalue(),
            complete=False,
            digest=digest(found.problems) if found.problems else "",
        )

    def _ask_all(self, problem: Problem) -> Trouble | None:
        trial = Trial(self.subject, problem)
        try:
            with self.limit(self.seconds, problem):
                for tally in self._found.tallies:
                    tally.ask(trial)
            return None
        except KeyboardInterrupt:
            raise
        except BadAnswer as error:
            what, where = str(error), ""
        except TookTooLong as error:
            what, where = str(error), traceback.format_exc()
        except BaseException as error:  # a SystemExit is as much of an answer
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"it raised {type(error).__name__}: {error}"
            what += f" ({Path(frame.filename).name}, line {frame.lineno})"
            where = traceback.format_exc()
        return Trouble(what, where, problem, self._found.since())

    def _shrink(self, tally: Tally, start: Broken, small: Sequence[Problem]) -> list[Problem]:
        """The problem that the tally then keeps, unless it is among the small ones already."""
        seconds, seed = self.profile.shrink_seconds, self.seed
        for found in shrink(tally.law, self.subject, start, seconds, seed, self.limit, small):
            tally.keep(found)
        kept = tally.broken.problem if tally.broken else start.problem
        return [] if any(kept is one for one in small) else [kept]

    def _find_blunt(self) -> None:
        """Laws that hold, and would hold as well if the answers were off by BLUNT."""
        held = [t for t in self._found.tallies if t.asked and not t.broken and t.law.measures]
        left = [tally.law for tally in held]
        for problem in self._found.problems[:SHARPENED]:
            # It has answered before; if it does not now, there is nothing to learn from that.
            with contextlib.suppress(Exception, TookTooLong), self.limit(self.seconds, problem):
                left = blind(left, self.subject, problem, BLUNT)
        for tally in held:
            tally.blunt = tally.law in left
