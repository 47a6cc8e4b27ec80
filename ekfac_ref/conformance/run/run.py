"""A subject, a number of problems, all laws: the run behind every way in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.causes import Cause, Exhibit
from ekfac_ref.conformance.findings.drawn_problems import DrawnProblems
from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.names import names
from ekfac_ref.conformance.findings.outcome import Off, Outcome
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import BY_CHANCE, Law
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.run.examiner import Examiner, Found
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.tally import Broken, Said, Tally

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
        known: deviations.
        tick: called before every "problem" and every search for a "smaller problem".
        max_fail: asks no further once so many problems break a law that is not known to; None for
            all of them.
    """

    examiner: Examiner
    profile: Profile
    seed: int = 0
    laws: Sequence[Law] = tuple(LAWS.values())
    known: KnownDeviations = field(default_factory=KnownDeviations)
    tick: Callable[[str], None] = lambda what: None
    max_fail: int | None = None

    def __post_init__(self) -> None:
        self._tallies = {law.name: Tally(law) for law in self.laws}
        self._drawn = DrawnProblems()
        self._broken: list[dict[str, Broken]] = []  # of every problem, by the law's name
        self._outcomes: list[Outcome] = []
        self._troubles: list[Trouble] = []
        self._refused: list[Trouble] = []
        self._exhibits: list[Exhibit] = []
        self._notes: list[str] = []
        self._lost = 0

    def report(self) -> Report:
        """Draw the problems, ask the laws of each, look for smaller problems that break them.

        Another call begins anew.
        """
        self.__post_init__()
        try:
            self._ask_all()
            if not self._given_up:
                self._exhibit_all()
                self._find_blunt()
        except KeyboardInterrupt:
            return self.so_far()
        return replace(self.so_far(), complete=True)

    def diagnosed(self, report: Report) -> Report:
        """The report with the name of the mistake, where a law is broken.

        That asks about many more problems; whatever happens there, the verdict is not lost.
        """
        if not self.profile.explains or not report.complete or not report.is_broken:
            return report
        if report.faults or report.given_up:
            return report
        measured = [cause for cause in report.causes if cause.is_measured]
        try:
            sentence = names(measured, self._name, report.outcomes)
        except KeyboardInterrupt:
            return replace(report, diagnosis="none, it was interrupted.")
        return replace(report, diagnosis=sentence, printed=self.examiner.printed)

    def _name(self, numbers: Sequence[int] = ()) -> Found:
        """Of the mistake that shows on these problems of the run; of the only one, if on none."""
        found = self.examiner.diagnose(self.seed, [self._drawn.problems[n] for n in numbers])
        if found.trouble is None:
            return found
        return Found(sentence=f"none, on another problem {_told(found)}")

    def so_far(self) -> Report:
        """The report of a run that ends here."""
        return Report(
            self.examiner.name,
            self.profile.name,
            self.seed,
            [tally.verdict(self.known.laws) for tally in self._tallies.values()],
            [*self._troubles],
            len(self._drawn.problems) or self.profile.problems,
            len(self._outcomes),
            self.examiner.printed,
            complete=False,
            digest=self._drawn.digest,
            notes=tuple(dict.fromkeys(self._notes)),
            given_up=self._given_up,
            apart=self.examiner.apart,
            refused=[*self._refused],
            outcomes=tuple(self._outcomes),
            known=self.known,
            allowed=self._drawn.allowed,
            declines=self._drawn.declines,
            exhibits=tuple(self._exhibits),
        )

    @property
    def _given_up(self) -> bool:
        return self._lost >= PATIENCE or any(not one.problem for one in self._troubles)

    def _ask_all(self) -> None:
        self._drawn = self.examiner.draw(self.profile.problems, self.seed)
        draws = self.profile.draws or self._drawn.only_draws
        left_out = [] if draws else [law for law in self.laws if law.lane in BY_CHANCE]
        for law in left_out:
            self._tallies[law.name].answered = True  # not offered: that takes another profile
        self._troubles += [self._drawn.trouble] if self._drawn.trouble else []
        drawn = self._drawn
        for problem, *special in zip(drawn.problems, drawn.features, drawn.mute, strict=True):
            if self._given_up or self._failed_enough():
                return
            self.tick("problem")
            found = self.examiner.ask(problem, [law for law in self.laws if law not in left_out])
            self._count(found, problem, *special)
            self._lost = self._lost + 1 if _is_lost(found) else 0
            if found.trouble:
                refused = found.trouble.blame is Blame.REFUSED
                (self._refused if refused else self._troubles).append(found.trouble)

    def _failed_enough(self) -> bool:
        """Whether to stop here; those that are left were then not to be asked."""
        failing = [one for one in self._broken if {*one} - {*self.known.laws}]
        if self.max_fail is None or len(failing) < self.max_fail:
            return False
        drawn, asked = self._drawn, len(self._outcomes)
        of = len(drawn.problems)
        self._notes.append(f"stopped after {asked} of {of} problems, as --max-fail says")
        self._drawn = replace(
            drawn,
            problems=drawn.problems[:asked],
            features=drawn.features[:asked],
            mute=drawn.mute[:asked],
        )
        return True

    def _count(
        self, found: Found, problem: Written, features: tuple[str, ...], mute: tuple[str, ...]
    ) -> None:
        outcome = _outcome(found, features, mute)
        self._outcomes.append(outcome)
        self._broken.append({said.law: said.broken for said in found.said if said.broken})
        if not outcome.has_any(tuple(self.known.features)):  # else what is broken is expected
            for said in found.said:  # as far as it came
                self._tallies[said.law].count(said, problem)

    def _exhibit_all(self) -> None:
        """One cause after the other, each on problems that are shrunk if that is asked for.

        One problem that breaks several laws is less to read.
        """
        for cause in self.so_far().causes:
            small: list[Written] = []
            shown: list[Tally] = []
            for name in cause.laws:
                shown.append(tally := Tally(self._tallies[name].law))
                for number in cause.problems:
                    if name in self._broken[number]:
                        tally.keep(self._broken[number][name])
                if tally.gravest and tally.broken and self.profile.explains:
                    self.tick("smaller problem")
                    self._shrink(tally, tally.gravest, small, cause)
                    if not any(tally.broken.problem.text == one.text for one in small):
                        small.append(tally.broken.problem)
            found = [(t.law, t.broken.problem, str(t.broken.law_broken)) for t in shown if t.broken]
            self._exhibits.append(Exhibit.of(cause, found))

    def _shrink(self, tally: Tally, start: Broken, small: Sequence[Written], cause: Cause) -> None:
        law, seconds = tally.law, self.profile.shrink_seconds
        where = cause.attributed.where if cause.attributed else Conjunction()
        absent = (*where.absent, *self.known.features)
        where = Conjunction(where.present, absent)
        found = self.examiner.shrink(law, start, seconds, self.seed, small, where)
        for one in found.smaller:
            tally.keep(one)
            self._tallies[law.name].keep(one)
        self._beside(found, f"no smaller problem for {law.name!r}")

    def _find_blunt(self) -> None:
        """Laws that hold, and would hold as well if the answers were off by BLUNT."""
        held = [t for t in self._tallies.values() if t.asked and not t.broken and t.law.measures]
        left, lost, asked = [tally.law for tally in held], 0, 0
        for problem, outcome in zip(self._drawn.problems, self._outcomes, strict=True):
            here = [law for law in left if law.name in outcome.held]  # else it has nothing to say
            if here and outcome.is_answered and asked < SHARPENED and lost < PATIENCE:
                found, asked = self.examiner.blind(here, problem), asked + 1
                left = [law for law in left if law not in here or law.name in found.blind]
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


def _outcome(found: Found, features: tuple[str, ...], mute: tuple[str, ...]) -> Outcome:
    """What is counted by features, of what came of a problem."""
    trouble = found.trouble

    def names(are: Callable[[Said], object]) -> frozenset[str]:
        return frozenset(said.law for said in found.said if are(said))

    return Outcome(
        features,
        is_answered=trouble is None,
        held=names(lambda said: said.ratios and not said.broken and not said.in_doubt),
        broken={
            said.law: Off(said.broken.law_broken.ratio, said.broken.size)
            for said in found.said
            if said.broken
        },
        doubted=names(lambda said: said.in_doubt),
        refusal=trouble.what if trouble and trouble.blame is Blame.REFUSED else "",
        mute=mute,
    )


def _is_lost(found: Found) -> bool:
    return found.trouble is not None and found.trouble.blame is Blame.LOST


def _told(found: Found) -> str:
    return found.trouble.what if found.trouble else ""
