"""What a run found: verdicts, causes, the scoreboard, and the exit code that sums them up."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape

from ekfac_ref.conformance.findings.advice import to_resolve
from ekfac_ref.conformance.findings.board import Score, Standing, scoreboard
from ekfac_ref.conformance.findings.causes import Cause, Exhibit, Refusal, causes, refusals
from ekfac_ref.conformance.findings.enough import too_few
from ekfac_ref.conformance.findings.known import Deviation, KnownDeviations, deviations
from ekfac_ref.conformance.findings.outcome import Outcome
from ekfac_ref.conformance.findings.verdicts import FAULT, Blame, Status, Trouble, Verdict


@dataclass(frozen=True, eq=False)
class Report:
    """A whole run.

    Attributes:
        subject: its name.
        profile, seed: to run it again.
        verdicts: one per law.
        troubles: problems that got no answer, by the subject's fault or the kit's.
        problems: how many should have been asked; ``asked``, how many were.
        printed: what the subject wrote.
        complete: False after an interrupt.
        diagnosis: which mistake it looks like, in one sentence, where a law is broken.
        digest: of the problems: two runs with one digest asked about the same ones.
        notes: what went wrong beside the verdict, and does not change it.
        given_up: whether it was asked no more, after too many problems on which it was lost.
        apart: whether it was asked in a process of its own, which cannot end the run.
        refused: problems that the subject refused.
        outcomes: of every problem that was asked.
        known: deviations.
        allowed: features that problems for the subject may have.
        declines: features that the subject declares to refuse.
        exhibits: one for each cause, once a problem to look at has been looked for.
        about: the one problem that all is about, where it is a user's own; what is counted as
            problems are then the blocks of its layers.
        unresolved: blocks of that on which no law would notice answers that are far off.
        dtype: of that, "float32" say; "" where it is not known.
    """

    subject: str
    profile: str
    seed: int
    verdicts: list[Verdict]
    troubles: list[Trouble]
    problems: int
    asked: int
    printed: str = ""
    complete: bool = True
    diagnosis: str = ""
    digest: str = ""
    notes: tuple[str, ...] = ()
    given_up: bool = False
    apart: bool = False
    refused: Sequence[Trouble] = ()
    outcomes: Sequence[Outcome] = ()
    known: KnownDeviations = field(default_factory=KnownDeviations)
    allowed: tuple[str, ...] = ()
    declines: tuple[str, ...] = ()
    exhibits: Sequence[Exhibit] = ()
    about: str = ""
    unresolved: tuple[str, ...] = ()
    dtype: str = ""

    def __repr__(self) -> str:
        return f"<Report on {self.subject}, exit code {self.exit_code}: {self.summary}>"

    def _repr_html_(self) -> str:
        """For notebooks: the verdict, what it comes from, and the features that are not exact."""
        found = "".join(f"<p>{escape(line)}</p>" for line in (self.summary, *self.sentences))
        rows = "".join(
            f"<tr><th scope='row'>{escape(score.name)}</th><td>{score.standing.value}</td></tr>"
            for score in self.scoreboard
            if score.standing not in (Standing.EXACT, Standing.NOT_DRAWN)
        )
        return f"{found}<table>{rows}</table>" if rows else found

    @property
    def things(self) -> str:
        """What is counted: problems, or the blocks of one."""
        return "blocks" if self.about else "problems"

    @property
    def faults(self) -> list[Trouble]:
        """The troubles that are the kit's own: there is no verdict then."""
        return [trouble for trouble in self.troubles if trouble.blame is Blame.KIT]

    @property
    def answered(self) -> int:
        """How many problems were answered, so that laws could be asked."""
        return sum(one.is_answered for one in self.outcomes)

    @property
    def is_broken(self) -> bool:
        """Whether a law is broken that is not known to be."""
        return any(verdict.status is Status.FAIL for verdict in self.verdicts)

    @cached_property
    def causes(self) -> list[Cause]:
        """What is broken and not known to be, by what its problems have in common."""
        laws = [v.law for v in self.verdicts if v.law.name not in self.known.laws]
        known = tuple(self.known.features)
        new = [Outcome(o.features) if o.has_any(known) else o for o in self.outcomes]
        return [replace(one, things=self.things) for one in causes(new, laws)]

    @cached_property
    def refusals(self) -> list[Refusal]:
        """What is refused, by what is raised."""
        return refusals(self.outcomes)

    @property
    def sentences(self) -> list[str]:
        """What is wrong where, which mistake it looks like, what is refused, what was known."""
        found = [f"{cause.sentence[:-1]}: {', '.join(cause.laws)}." for cause in self.causes]
        found += [f"Diagnosis: {self.diagnosis}"] if self.diagnosis else []
        declared = {*self.declines, *self.known.refusals}
        for refusal in self.refusals:
            as_declared = refusal.features and refusal.features <= declared
            found.append(f"As declared: {refusal.sentence}" if as_declared else refusal.sentence)
        return found + [deviation.sentence for deviation in self.deviations]

    def first_of(self, refusal: Refusal) -> Trouble:
        """The first problem that was refused so."""
        refused = [i for i, one in enumerate(self.outcomes) if one.refusal]
        return self.refused[refused.index(refusal.problems[0])]

    @cached_property
    def deviations(self) -> list[Deviation]:
        """Known features and refusals, and whether they showed."""
        return deviations(self.known, self.outcomes)

    @cached_property
    def scoreboard(self) -> list[Score]:
        """Every feature that problems have or may have, with its verdict."""
        laws = [verdict.law for verdict in self.verdicts]
        rows = scoreboard(
            self.outcomes, laws, self.causes, self.refusals, self.known, self.declines
        )
        return [row for row in rows if row.drawn or row.name in self.allowed]

    @cached_property
    def too_few(self) -> str:
        """What is missing for a verdict where all was asked, or ""."""
        if not self.outcomes or self.asked < self.problems:
            return ""
        return too_few(self.outcomes, {*self.declines, *self.known.refusals})

    @property
    def exit_code(self) -> int:
        """The first that applies: 2 the problem is a user's own and mistaken, 6 the kit itself
        failed, 3 the subject gives no answer, 4 fewer checks ran than should have, 1 it does not
        conform, 3 it answers too little, 5 inconclusive, 0 it conforms. What is broken is broken,
        however much is refused beside.
        """
        statuses = {verdict.status for verdict in self.verdicts}
        shown = {deviation.shown for deviation in self.deviations}
        if any(trouble.blame is Blame.PROBLEM for trouble in self.troubles):
            return 2
        if self.faults:
            return 6
        if self.troubles:
            return 3
        if not self.complete or self.asked < self.problems or not self.verdicts:
            return 4
        if statuses & {Status.FAIL, Status.UNEXPECTED_PASS} or False in shown:
            return 1
        if self.too_few:
            return 3
        blunt = bool(self.unresolved) if self.about else Status.INCONCLUSIVE in statuses
        blunt |= not statuses & {Status.PASS, Status.EXPECTED_FAILURE}  # nothing speaks for it
        return 5 if blunt or Status.IN_DOUBT in statuses or None in shown else 0

    @property
    def summary(self) -> str:
        """The exit code in words."""
        code, found = self.exit_code, self._found()
        if code == 6:
            return f"No verdict: {FAULT} ({found})."
        if code == 2:
            return f"No verdict: {self.troubles[0].what}"
        if code == 3:
            if self.troubles and not self.troubles[0].problem:  # as always with a user's own
                return f"No verdict: it could not be asked ({self.troubles[0].what})."
            given_up = "; it was asked no more" if self.given_up else ""
            why = (
                f"{len(self.troubles)} of {self.problems} problems got no answer that laws could "
                f"be asked of{given_up}"
                if self.troubles
                else self.too_few
            )
            return f"No verdict: {why} ({found})."
        if code == 4:
            why = "not all was asked" if self.complete else "interrupted"
            return f"Incomplete: {why}, {self.asked} of {self.problems} {self.things} ({found})."
        if code == 1:
            return f"It does not conform ({found}){self._numbers_are_right()}."
        return self._open() if code == 5 else self._conforms()

    def _numbers_are_right(self) -> str:
        """Who has left a random state changed is told apart from who has computed wrongly."""
        found = {v.status for v in self.verdicts if v.law.measures and v.asked}
        is_right = found == {Status.PASS} and not self.unresolved and not self.deviations
        return "; of the numbers that it answers none was found wrong" if is_right else ""

    def _found(self) -> str:
        broken = [v.law.name for v in self.verdicts if v.status is Status.FAIL]
        holds = [v.law.name for v in self.verdicts if v.status is Status.UNEXPECTED_PASS]
        holds += [f"{one.what} {one.name}" for one in self.deviations if one.shown is False]
        parts = [f"broken: {', '.join(broken)}"] if broken else []
        parts += [f"known as deviations, but held: {', '.join(holds)}"] if holds else []
        return "; ".join(parts) or "no law was broken"

    def _open(self) -> str:
        open_ = [v for v in self.verdicts if v.status is Status.INCONCLUSIVE and not self.about]
        never = [v.law.name for v in open_ if not v.asked]
        blunt = [v.law.name for v in open_ if v.asked]
        unseen = [f"{one.what} {one.name}" for one in self.deviations if one.shown is None]
        parts = [f"no problem was one to ask {', '.join(never)} of"] if never else []
        parts += [f"answers far off would pass {', '.join(blunt)} too"] if blunt else []
        parts += [f"no problem could show the known {', '.join(unseen)}"] if unseen else []
        advice = ["ask more"] if parts else []
        if self.unresolved:
            parts += [f"answers far off would pass all laws on {', '.join(self.unresolved)}"]
            advice += [to_resolve({v.law.name: v.status for v in self.verdicts}, self.dtype)]
        if not parts and all(v.status is not Status.IN_DOUBT for v in self.verdicts):
            parts += [f"nothing could be told by {', '.join(v.law.name for v in self.verdicts)}"]
            advice += ["ask all laws"]
        doubt = [v.law.name for v in self.verdicts if v.status is Status.IN_DOUBT]
        if doubt:
            parts += [f"neither rounding nor clearly a mistake in {', '.join(doubt)}"]
            advice += ["look at where these lose digits"]
        return f"Inconclusive: {'; '.join(parts)}; {', '.join(advice)}."

    def _conforms(self) -> str:
        how = Counter(v.status for v in self.verdicts)
        known = how[Status.EXPECTED_FAILURE]
        deviations = f", {known} known to be broken" if known else ""
        passed, refused = how[Status.PASS], len(self.refused)
        held = f"{passed} {'law holds' if passed == 1 else 'laws hold'}{deviations}"
        if not refused:
            return f"It conforms: {held}, on {self.problems} {self.things}."
        others = "1 other" if refused == 1 else f"{refused} others"
        return f"It conforms: {held}, on {self.answered} problems, and it refuses {others}."
