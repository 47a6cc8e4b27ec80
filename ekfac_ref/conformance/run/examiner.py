"""Who asks the subject: what a run needs of that, and how it is done in the process at hand.

Nothing of the subject's is handed on: what laws said, texts and numbers. So the one who asks may as
well be in another process, which the subject cannot take the run along with (``process/``).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.drawn_problems import DrawnProblems
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.run.kept import PRINTED, Kept
from ekfac_ref.conformance.run.raised import Raised, cut, message, own_files, place, traceback_of
from ekfac_ref.conformance.run.resolution import blind
from ekfac_ref.conformance.run.shrink import shrink
from ekfac_ref.conformance.run.tally import Broken, Said, said
from ekfac_ref.conformance.run.time_limit import TookTooLong, at_most, limited
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import SAMPLED, Subject
from ekfac_ref.conformance.subjects.trial import Trial

_T = TypeVar("_T")
_Passes = Callable[[BaseException], None]
BLUNT = 0.1  # a law that would not notice an error of this size says nothing by holding


@dataclass(frozen=True, eq=False)
class Found:
    """What came of one question, and what went wrong meanwhile, if anything did.

    Of a diagnosis, ``sentence`` and ``named`` are what it has.
    """

    said: Sequence[Said] = ()
    smaller: Sequence[Broken] = ()
    blind: Sequence[str] = ()
    sentence: str = ""
    named: str = ""
    trouble: Trouble | None = None


@runtime_checkable
class Examiner(Protocol):
    """Whoever puts one subject on trial, in whichever process."""

    @property
    def name(self) -> str:
        """How reports call the subject."""

    @property
    def apart(self) -> bool:
        """Whether the subject is asked in a process of its own."""

    @property
    def printed(self) -> str:
        """What the subject wrote to its streams so far."""

    def draw(self, count: int, seed: int) -> DrawnProblems:
        """The problems that its abilities allow."""

    def ask(self, problem: Written, laws: Sequence[Law]) -> Found:
        """What the laws say of one problem; of some of them, where the subject ends that."""

    def shrink(
        self,
        law: Law,
        start: Broken,
        seconds: float,
        seed: int,
        small: Sequence[Written],
        where: Conjunction,
    ) -> Found:
        """Smaller problems that show how ``start`` is broken (``shrink.py``)."""

    def blind(self, laws: Sequence[Law], problem: Written) -> Found:
        """Names of the laws that would hold on the problem if all answers were off by BLUNT."""

    def diagnose(self, seed: int, problems: Sequence[Written] = ()) -> Found:
        """Which mistake it looks like, in one sentence; on these problems, if there are any."""


class Here:
    """Asks a subject in this process: what ends the process ends the run.

    What it prints to ``sys.stdout`` is kept. An interrupt comes through.

    Args:
        subject: on trial.
        seconds: for all laws on one problem, and for every answer beside that; see ``at_most``.
        path: by which it was loaded, if it was.
    """

    apart = False
    interrupt: tuple[type[BaseException], ...] = (KeyboardInterrupt,)  # that of whoever waits

    def __init__(self, subject: Subject, seconds: float = 60.0, path: str = "") -> None:
        self.raised, self._files = Raised(), own_files(subject, path)
        self.subject = self.raised.subject(subject)
        self.name, self.seconds, self.printed = cut(str(subject.name), 200), seconds, ""

    def draw(self, count: int, seed: int) -> DrawnProblems:
        """Problems and their texts; ProblemError where there are none for its abilities."""
        problems = draw_problems(self.subject.abilities, count, seed)
        return DrawnProblems.of(
            [Written.of(problem) for problem in problems],
            problems,
            allowed=tuple(name for name in FEATURES if self.subject.abilities.allows(name)),
            declines=tuple(self.subject.abilities.declines),
            only_draws={*self.subject.ways} <= {*SAMPLED},
        )

    def ask(self, problem: Written, laws: Sequence[Law]) -> Found:
        """All laws, within the time for one problem."""
        found: list[Said] = []

        def asking() -> None:
            trial = Trial(self.subject, problem.rebuilt)
            with at_most(self.seconds):
                _ = trial.cases  # what is refused here is refused to all laws
                for law in laws:
                    found.append(said(law, trial, self._refusal))

        with self._heard() as heard:
            _, trouble = self._tried(asking, problem, heard)
        return Found(said=found, trouble=trouble)

    def _refusal(self, error: Exception) -> str:
        """A line on what is raised at what a law asks beyond the answer at hand, or ""."""
        refused = self.raised.refuses(error, self._files)
        return _raised("it raised", error) if refused else ""

    def shrink(
        self,
        law: Law,
        start: Broken,
        seconds: float,
        seed: int,
        small: Sequence[Written],
        where: Conjunction,
    ) -> Found:
        """Within its own time; what the subject raises on other problems is no matter here."""
        found, trouble = self._beside(
            lambda passes: shrink(law, self.subject, start, seconds, seed, small, where, passes)
        )
        return Found(smaller=found or (), trouble=trouble)

    def blind(self, laws: Sequence[Law], problem: Written) -> Found:
        """It has answered before; if it does not now, there is nothing to learn from that."""

        def asking(passes: _Passes) -> list[str]:
            with at_most(self.seconds):
                found = blind(laws, self.subject, problem.rebuilt, BLUNT, passes)
                return [law.name for law in found]

        left, trouble = self._beside(asking, problem)
        return Found(blind=[law.name for law in laws] if left is None else left, trouble=trouble)

    def diagnose(self, seed: int, problems: Sequence[Written] = ()) -> Found:
        """It asks about many more problems, unless these are to do."""
        within = limited(self.subject, self.seconds)
        with self._heard() as heard:
            found, trouble = self._tried(
                lambda: diagnose(within, seed=seed, problems=[one.rebuilt for one in problems]),
                None,
                heard,
            )
        if found is None:
            return Found(trouble=trouble)
        return Found(sentence=found.sentence, named=found.named, trouble=trouble)

    def _beside(
        self, ask: Callable[[_Passes], _T], problem: Written | None = None
    ) -> tuple[_T | None, Trouble | None]:
        """What ``ask`` finds; what it passes over is trouble only where it is the kit's."""
        faults: list[BaseException] = []

        def passes(error: BaseException) -> None:
            if self._is_kits(error):
                faults.append(error)

        with self._heard(keep=False) as heard:
            found, trouble = self._tried(lambda: ask(passes), problem, heard)
        if faults and trouble is None:
            trouble = self._trouble(faults[0], problem, "")
        return found, trouble

    def _tried(
        self, ask: Callable[[], _T], problem: Written | None, heard: Kept
    ) -> tuple[_T | None, Trouble | None]:
        try:
            return ask(), None
        except self.interrupt:
            raise
        except BaseException as error:  # a SystemExit is as much of an answer
            return None, self._trouble(error, problem, str(heard))

    def _trouble(self, error: BaseException, problem: Written | None, printed: str) -> Trouble:
        if isinstance(error, BadAnswer):
            return Trouble(cut(str(error), PRINTED), "", problem, printed)
        if isinstance(error, TookTooLong):
            return Trouble(str(error), traceback_of(error), problem, printed, Blame.LOST)
        if self._is_kits(error):
            blame, who = Blame.KIT, "the kit itself raised"
        elif self.raised.refuses(error, self._files):
            blame, who = Blame.REFUSED, "it raised"
        else:
            crash = self.raised.crashed(error, self._files)
            blame, who = Blame.SUBJECT, "the adapter crashed:" if crash else "it raised"
        return Trouble(_raised(who, error), traceback_of(error), problem, printed, blame)

    def _is_kits(self, error: BaseException) -> bool:
        known = isinstance(error, BadAnswer | TookTooLong)
        return not known and not self.raised.has(error)

    @contextlib.contextmanager
    def _heard(self, keep: bool = True) -> Iterator[Kept]:
        """Catch what is printed; what was printed when it was asked first is not kept again."""
        heard = Kept(PRINTED)
        try:
            with contextlib.redirect_stdout(heard):
                yield heard
        finally:
            if keep and not heard.closed:
                self.printed = cut(self.printed + str(heard), PRINTED)


def _raised(who: str, error: BaseException) -> str:
    return f"{who} {message(error)}{place(error)}"
