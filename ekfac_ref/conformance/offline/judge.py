"""Asks answers that are in files; see ``Examiner``. Nothing is asked that was not exported."""

from collections.abc import Sequence
from dataclasses import replace

from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.drawn_problems import DrawnProblems
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.offline.answered_set import AnsweredSet
from ekfac_ref.conformance.offline.questions import NOT_OF_FILES
from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.run.examiner import Found, Here
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.tally import Broken, Said


class OfFiles:
    """The files of one set on trial.

    Args:
        answered: the set.
        seconds: for all laws on one problem.
    """

    apart = True  # whoever answered is in no process of this run

    def __init__(self, answered: AnsweredSet, seconds: float = 60.0) -> None:
        self._answered, self.here = answered, Here(answered.subject, seconds)
        self.name, self.printed = self.here.name, ""
        self._numbers: dict[str, int] = {}

    @property
    def profile(self) -> Profile:
        """All problems of the set; no smaller ones are looked for."""
        return Profile("files", len(self._answered.exported.problems), 0.0)

    @property
    def seed(self) -> int:
        """The one that the set was drawn by."""
        return self._answered.exported.seed

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the report is to know."""
        exported, laws = self._answered.exported, ", ".join(NOT_OF_FILES)
        return (
            f"answers from files, to {exported.says}; not asked: {laws}, for a file leaves nothing "
            "behind",
        )

    def draw(self, count: int, seed: int) -> DrawnProblems:
        """The problems of the set, whatever the count and the seed."""
        exported, abilities = self._answered.exported, self.here.subject.abilities
        found = []
        for number, problem in exported.problems.items():
            plain = Written.of(problem)
            one = Written(f"# questions/{number:04}-plain\n{plain.text}")
            one.__dict__["rebuilt"] = problem
            self._numbers[one.text] = number
            found.append(one)
        problems = list(exported.problems.values())
        declines = tuple(abilities.declines)
        return DrawnProblems.of(found, problems, allowed=tuple(FEATURES), declines=declines)

    def ask(self, problem: Written, laws: Sequence[Law]) -> Found:
        """All laws; none where a file of this problem is missing or wrong."""
        if what := self._answered.troubles.get(self._numbers[problem.text], ""):
            return Found(trouble=Trouble(what, "", problem))
        if what := self._answered.refusal(problem.rebuilt):
            told = f"its refused.txt says: {what}"
            return Found(trouble=Trouble(told, "", problem, blame=Blame.REFUSED))
        found = self.here.ask(problem, laws)
        return replace(found, said=[_of(problem, one) for one in found.said])

    def shrink(
        self,
        law: Law,
        start: Broken,
        seconds: float,
        seed: int,
        small: Sequence[Written],
        where: Conjunction,
    ) -> Found:
        """Nothing: nobody could answer smaller problems."""
        return Found()

    def blind(self, laws: Sequence[Law], problem: Written) -> Found:
        """Names of the laws that would hold on the problem if all answers were off."""
        return self.here.blind(laws, problem)

    def diagnose(self, seed: int, problems: Sequence[Written] = ()) -> Found:
        """On these problems of the set, or on all of it."""
        every = list(self._answered.exported.problems.values())
        used = [problem.rebuilt for problem in problems] or every
        found = diagnose(self.here.subject, problems=used, elsewhere=False)
        return Found(sentence=found.sentence, named=found.named)


def _of(problem: Written, said: Said) -> Said:
    """What a law said, of the problem with its folder's name."""
    broken = said.broken and replace(said.broken, problem=problem)
    return replace(said, broken=broken)
