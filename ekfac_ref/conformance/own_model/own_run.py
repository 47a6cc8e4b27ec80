"""A subject, a problem of the user's own, the laws for any size: the run behind every way in."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol, runtime_checkable

from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.outcome import Off, Outcome
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Blame, Status, Trouble, Verdict
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.own_model.laws.catalogue import OWN_LAWS
from ekfac_ref.conformance.own_model.looks import Looks, diagnosis
from ekfac_ref.conformance.own_model.mistaken import MistakenProblem
from ekfac_ref.conformance.own_model.own_examiner import AskedOnce, JudgedPart, Opened, PartSaid
from ekfac_ref.conformance.run.examiner import BLUNT
from ekfac_ref.conformance.truth.tolerance import LIMIT, Doubt

OF_MANNERS = "leaves alone"
ASKABLE = (*OWN_LAWS, OF_MANNERS)  # names of laws
# One of these has to see BLUNT on a block, or nobody knows whether E is right there; or K.
_TELL = ({"trace", "moments", "spectrum", "comparison", "eigenvalues"}, {"kfac"})
_TOLD = 3  # of what a subject changed, so many lines
# It is held to E or K as they are shown, whatever they are; to the definition, where neither is.
_ALONE = {"precondition"}


@runtime_checkable
class OwnExaminer(Protocol):
    """Whoever asks one subject about one problem of the user's own, in whichever process."""

    @property
    def name(self) -> str:
        """How reports call the subject."""

    @property
    def apart(self) -> bool:
        """Whether the subject is asked in a process of its own."""

    @property
    def printed(self) -> str:
        """What the subject wrote to its streams so far."""

    def measure_own(self, tick: Callable[[], None]) -> Opened:
        """What is right; ``tick`` is called after every pass over the data."""

    def ask_own(self) -> AskedOnce:
        """Have the subject answer the one question."""

    def judge_own(self, number: int, laws: Collection[str]) -> JudgedPart:
        """What the laws say of a block."""


@dataclass(eq=False)
class _OwnTally:
    """One law while a run goes on."""

    law: Law
    offered: bool = False
    asked: int = 0
    worst: float = 0.0
    gravest: PartSaid | None = None
    doubt: tuple[float, str] | None = None
    notices: list[float] = field(default_factory=list)
    refused: tuple[int, str] = (0, "")

    def count(self, said: PartSaid, title: str) -> None:
        self.offered |= said.offered
        if said.refused:
            self.refused = self.refused[0] + 1, self.refused[1] or said.refused
        if said.broken:
            self.asked += 1
            self.worst = max(self.worst, said.ratio)
            if self.gravest is None or said.ratio > self.gravest.ratio:
                self.gravest = said
        if said.weighed is None:
            return
        self.asked += 1
        ratio = said.weighed.ratio
        self.worst = max(self.worst, ratio)
        self.notices.append(said.weighed.notices)
        if ratio > LIMIT and (self.doubt is None or ratio > self.doubt[0]):
            self.doubt = ratio, title

    def verdict(self, reason: str, answered: bool) -> Verdict:
        """With a known deviation, strictly: if it holds after all, that is a failure too."""
        says = ""
        if not answered:
            status = Status.INCONCLUSIVE
        elif not self.offered:
            status = Status.NOT_OFFERED
        elif self.gravest:
            status = Status.EXPECTED_FAILURE if reason else Status.FAIL
            says = self.gravest.broken
        elif self.doubt:
            status, says = Status.IN_DOUBT, f"{self.doubt[1]}: {Doubt(self.doubt[0])}"
        elif not self.asked and self.refused[0]:
            status = Status.REFUSED
        elif not self.asked or min(self.notices, default=0.0) > BLUNT:
            status = Status.INCONCLUSIVE
        else:
            status = Status.UNEXPECTED_PASS if reason else Status.PASS
        sees = (min(self.notices), max(self.notices)) if self.notices else None
        law, measures = self.law, self.law.measures
        return Verdict(
            *(law, status, self.asked, self.worst, says, None, reason, self.refused),
            notices=sees if measures else None,
        )


@dataclass(eq=False)
class OwnRun:
    """A run that can be interrupted at any block and still makes a report.

    Attributes:
        examiner: who asks the subject; its problem is opened.
        about: what the problem is called.
        seed: of the random vectors.
        laws: names of those that are asked, of ASKABLE.
        known: deviations; only those of laws count.
        tick: called with "measured" after every pass over the data, with "answered", and after
            every block with "judged".
    """

    examiner: OwnExaminer
    about: str
    seed: int = 0
    laws: Collection[str] = ASKABLE
    known: KnownDeviations = field(default_factory=KnownDeviations)
    tick: Callable[[str], None] = lambda what: None

    def __post_init__(self) -> None:
        laws = [one.law for one in OWN_LAWS.values()] + [LAWS[OF_MANNERS]]
        self._tallies = {law.name: _OwnTally(law) for law in laws if law.name in self.laws}
        self._opened, self._answered = Opened(), False
        self._outcomes: list[Outcome] = []
        self._troubles: list[Trouble] = []
        self._unresolved: list[str] = []
        self._looks: list[Looks] = []

    def report(self) -> Report:
        """Measure, ask, judge block after block. An interrupt ends it, and the report says so.

        Raises:
            MistakenProblem: there is nothing to ask about.
        """
        try:
            self._opened = self.examiner.measure_own(lambda: self.tick("measured"))
            if self._opened.mistake:
                raise MistakenProblem(self._opened.mistake)
            self._trouble(self._opened.trouble)
            if not self._troubles:
                asked = self.examiner.ask_own()
                self.tick("answered")
                self._trouble(asked.trouble)
                self._count_changes(asked.changes)
            if not self._troubles:
                self._answered = True
                self._judge_all()
        except KeyboardInterrupt:
            return self.so_far()
        return replace(self.so_far(), complete=True)

    @property
    def blocks(self) -> int:
        """How many there are; 0 as long as nobody knows."""
        return len(self._opened.titles)

    def so_far(self) -> Report:
        """The report of a run that ends here."""
        reasons = self.known.laws
        return Report(
            self.examiner.name,
            "any size",
            self.seed,
            [
                tally.verdict(reasons.get(name, ""), self._answered or name == OF_MANNERS)
                for name, tally in self._tallies.items()
            ],
            [*self._troubles],
            max(self.blocks, 1),
            len(self._outcomes),
            self.examiner.printed,
            complete=False,
            given_up=bool(self._troubles),
            apart=self.examiner.apart,
            outcomes=tuple(self._outcomes),
            known=KnownDeviations(laws=reasons),
            about=self.about,
            diagnosis=diagnosis(self._looks, len(self._outcomes)),
            unresolved=tuple(self._unresolved),
            dtype=self._opened.dtype,
        )

    def _trouble(self, trouble: Trouble | None) -> None:
        if trouble is not None:
            blame = Blame.SUBJECT if trouble.blame is Blame.REFUSED else trouble.blame
            self._troubles.append(replace(trouble, blame=blame))

    def _count_changes(self, changes: Collection[str]) -> None:
        if tally := self._tallies.get(OF_MANNERS):
            lines = [*dict.fromkeys(changes)]  # a precondition is asked several times
            more = [f"and {len(lines) - _TOLD} others"] if len(lines) > _TOLD else []
            said = PartSaid(OF_MANNERS, True, broken="; ".join(lines[:_TOLD] + more))
            tally.count(said, "")
            tally.asked = 1

    def _judge_all(self) -> None:
        names = [name for name in self._tallies if name != OF_MANNERS]
        rows = zip(self._opened.titles, self._opened.features, strict=True)
        for number, (title, features) in enumerate(rows):
            judged = self.examiner.judge_own(number, names)
            self._trouble(judged.trouble)
            for said in judged.said:
                self._tallies[said.law].count(said, title)
            self._outcomes.append(_outcome_of(judged, features))
            if any(said.broken and said.law not in self.known.laws for said in judged.said):
                self._looks.append(judged.looks)
            if not judged.trouble and not _is_resolved(judged):
                self._unresolved.append(title)
            self.tick("judged")
            if judged.trouble:
                return


def _is_resolved(judged: JudgedPart) -> bool:
    """Whether a law would have noticed BLUNT, of E and of K; or one is broken, or none is asked."""
    if any(said.broken for said in judged.said):
        return True
    groups = [_offered(judged, laws) for laws in _TELL]
    groups = [one for one in groups if one] or [_offered(judged, _ALONE)]
    return all(not one or _sharpest(one) <= BLUNT for one in groups)


def _offered(judged: JudgedPart, laws: Collection[str]) -> list[PartSaid]:
    return [said for said in judged.said if said.law in laws and said.offered]


def _sharpest(several: list[PartSaid]) -> float:
    return min((said.weighed.notices for said in several if said.weighed), default=1.0)


def _outcome_of(judged: JudgedPart, features: tuple[str, ...]) -> Outcome:
    """What a law says that would notice nothing is open, where no other tells."""
    weighed = {said.law: said.weighed for said in judged.said if said.weighed}
    sees = inf if _is_resolved(judged) else BLUNT
    held = {law for law, one in weighed.items() if one.ratio <= LIMIT and one.notices <= sees}
    return Outcome(
        features,
        is_answered=judged.trouble is None,
        held=frozenset(held),
        broken={said.law: Off(said.ratio, said.size) for said in judged.said if said.broken},
        doubted=frozenset(weighed.keys() - held),
    )
