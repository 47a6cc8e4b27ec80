"""A subject, a number of problems, all laws: the run behind every way in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.run.examiner import Examiner, Found
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.tally import Broken, Tally
from ekfac_ref.conformance.run.verdicts import Blame, Report, Trouble

SHARPENED = 20  # problems, at most, to find one on which a law would notice an error
PATIENCE = 3  # problems in a row on which a subject may be lost; after these it is given up


@dataclass(eq=False)
class Run:
    """A run that can be interrupted at any problem and still makes a report.

    Verdicts are made here and nowhere else, whoever asks, in whichever process.

    Attributes:
        examiner: who asks the subject.
        profile: how much is asked.
        seed: of the problems.
        laws: asked of every problem.
        known: reasons of known deviations, by the law's name.
        tick: called before every "problem" and every search for a "smaller problem".
    """

    examiner: Examiner
    profile: Profile
    seed: int = 0
    laws: Sequence[Law] = tuple(LAWS.values())
    known: Mapping[str, str] = field(default_factory=dict)
    tick: Callable[[str], None] = lambda what: None

    def __post_init__(self) -> None:
        self._tallies = [Tally(law) for law in self.laws]
        self._problems: Sequence[Written] = ()
        self._digest = ""
        self._troubles: list[Trouble] = []
        self._notes: list[str] = []
        self._answered, self._lost = 0, 0

    def report(self) -> Report:
        """Draw the problems, ask the laws of each, look for smaller problems that break them.

        Another call begins anew.
        """
        self.__post_init__()
        try:
            self._ask_all()
            if not self._given_up:
                self._shrink_all()
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
        try:
            found = self.examiner.diagnose(self.seed)
        except KeyboardInterrupt:
            return replace(report, diagnosis="none, it was interrupted.")
        sentence = f"none, on another problem {_told(found)}" if found.trouble else found.sentence
        return replace(report, diagnosis=sentence, printed=self.examiner.printed)

    def so_far(self) -> Report:
        """The report of a run that ends here."""
        return Report(
            self.examiner.name,
            self.profile.name,
            self.seed,
            [tally.verdict(self.known) for tally in self._tallies],
            [*self._troubles],
            len(self._problems) or self.profile.problems,
            self._answered,
            self.examiner.printed,
            complete=False,
            digest=self._digest,
            notes=tuple(dict.fromkeys(self._notes)),
            given_up=self._given_up,
            apart=self.examiner.apart,
        )

    @property
    def _given_up(self) -> bool:
        return self._lost >= PATIENCE or any(not one.problem for one in self._troubles)

    def _ask_all(self) -> None:
        drawn = self.examiner.draw(self.profile.problems, self.seed)
        self._problems, self._digest = drawn.problems, drawn.digest
        self._troubles += [drawn.trouble] if drawn.trouble else []
        for problem in self._problems:
            if self._given_up:
                return
            self.tick("problem")
            found = self.examiner.ask(problem, self.laws)
            for tally, said in zip(self._tallies, found.said, strict=False):  # as far as it came
                tally.count(said, problem)
            self._answered += 1
            self._lost = self._lost + 1 if _is_lost(found) else 0
            self._troubles += [found.trouble] if found.trouble else []

    def _shrink_all(self) -> None:
        small: list[Written] = []
        for tally in self._tallies:
            if tally.gravest and tally.broken:
                self.tick("smaller problem")
                self._shrink(tally, tally.gravest, small)
                if not any(tally.broken.problem.text == one.text for one in small):
                    small.append(tally.broken.problem)

    def _shrink(self, tally: Tally, start: Broken, small: Sequence[Written]) -> None:
        law, seconds = tally.law, self.profile.shrink_seconds
        found = self.examiner.shrink(law, start, seconds, self.seed, small)
        for one in found.smaller:
            tally.keep(one)
        self._beside(found, f"no smaller problem for {law.name!r}")

    def _find_blunt(self) -> None:
        """Laws that hold, and would hold as well if the answers were off by BLUNT."""
        held = [t for t in self._tallies if t.asked and not t.broken and t.law.measures]
        left, lost = [tally.law for tally in held], 0
        for problem in self._problems[:SHARPENED]:
            if left and lost < PATIENCE:
                found = self.examiner.blind(left, problem)
                left = [law for law in left if law.name in found.blind]
                lost += _is_lost(found)
                self._beside(found, "what a law would notice")
        for tally in held:
            tally.blunt = tally.law in left

    def _beside(self, found: Found, what: str) -> None:
        """What goes wrong beside the questions of the run; a fault of the kit's is never beside."""
        if found.trouble and found.trouble.blame is Blame.KIT:
            self._troubles.append(found.trouble)
        elif _is_lost(found):
            self._notes.append(f"{what}: when it was asked once more, {_told(found)}")


def _is_lost(found: Found) -> bool:
    return found.trouble is not None and found.trouble.blame is Blame.LOST


def _told(found: Found) -> str:
    return found.trouble.what if found.trouble else ""
