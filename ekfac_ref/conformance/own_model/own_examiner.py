"""Asks a subject about a problem of the user's own, in the process at hand, step by step.

Every step answers with texts and numbers alone, so that the one who asks may be in another process.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from math import inf

from ekfac_ref.conformance.findings.verdicts import Trouble
from ekfac_ref.conformance.own_model.laws.catalogue import OWN_LAWS
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.own_law import Beyond, OwnLaw, Weighed
from ekfac_ref.conformance.own_model.layer_features import features_of_parts
from ekfac_ref.conformance.own_model.looks import Looks, looks_like
from ekfac_ref.conformance.own_model.measured.measure import Measured, passes_over
from ekfac_ref.conformance.own_model.mistaken import MistakenProblem
from ekfac_ref.conformance.own_model.trial import OwnTrial
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.time_limit import at_most
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True, eq=False)
class PartSaid:
    """What one law said of one block.

    Attributes:
        law: its name.
        offered: whether the answer has what it needs.
        weighed: the largest ratio, and the smallest error that it would have noticed; None where
            it has nothing to say.
        broken: what it says where it does not hold, or "".
        ratio, size: how far from holding that is.
        refused: what the subject raised at a question of this law's own, or "".
    """

    law: str
    offered: bool = False
    weighed: Weighed | None = None
    broken: str = ""
    ratio: float = inf
    size: float = inf
    refused: str = ""


@dataclass(frozen=True, eq=False)
class Opened:
    """The blocks of the problem.

    Attributes:
        titles: of every block.
        features: of every block, by name.
        dtype: of the problem, "float32" say.
        mistake: of the problem itself, where there are none for that.
        trouble: why else there are none.
    """

    titles: Sequence[str] = ()
    features: Sequence[tuple[str, ...]] = ()
    dtype: str = ""
    mistake: str = ""
    trouble: Trouble | None = None


@dataclass(frozen=True, eq=False)
class AskedOnce:
    """What became of the question itself.

    Attributes:
        changes: a line for everything that the subject changed meanwhile.
        trouble: why there is no answer.
    """

    changes: Sequence[str] = ()
    trouble: Trouble | None = None


@dataclass(frozen=True, eq=False)
class JudgedPart:
    """What the laws say of one block; of some of them, where the subject ends that.

    Attributes:
        said: by every law that was asked.
        trouble: what has ended that, if anything.
        looks: what E and K look like, where a law is broken.
    """

    said: Sequence[PartSaid] = ()
    trouble: Trouble | None = None
    looks: Looks = field(default_factory=dict)


class OwnHere(Here):
    """Like ``Here``, for one problem of any size."""

    _trial: OwnTrial
    _known: list[Measured]
    _examined: list[Examined]

    def begin(self, problem: Problem, seed: int, name: str = "") -> int:
        """Hold the problem; returns the number of passes that ``measure_own`` takes.

        ``name`` is what messages call it.

        Raises:
            MistakenProblem: it is no problem for this.
            ProblemError: the subject is none for this.
        """
        self._trial = OwnTrial(self.subject, problem, seed, name)
        return passes_over(self._trial.given.problem)

    def measure_own(self, tick: Callable[[], None]) -> Opened:
        """Find out what is right; no subject has a part in it."""

        def measuring() -> Opened:
            try:
                self._known = self._trial.measured(tick)
            except MistakenProblem as error:
                return Opened(mistake=str(error))
            titles = [one.part.title for one in self._known]
            problem = self._trial.given.problem
            dtype = str(problem.dtype).removeprefix("torch.")
            return Opened(titles, features_of_parts(problem, self._known), dtype)

        with self._heard() as heard:
            found, trouble = self._tried(measuring, None, heard)
        return found or Opened(trouble=trouble)

    def ask_own(self) -> AskedOnce:
        """Have the subject answer, within its time."""

        def asking() -> None:
            with at_most(self.seconds):
                self._examined = self._trial.examined(self._known)

        with self._heard() as heard:
            _, trouble = self._tried(asking, None, heard)
        return AskedOnce([*self._trial.changes], trouble)

    def judge_own(self, number: int, laws: Collection[str]) -> JudgedPart:
        """Ask the laws of one block."""
        found: list[PartSaid] = []

        def judging() -> Looks:
            one = self._examined[number]
            with at_most(self.seconds):
                for law in OWN_LAWS.values():
                    if law.law.name in laws:
                        found.append(self._said(law, one))
                wrong = {said.law: said.size for said in found if said.broken}
                return looks_like(one, wrong, self._trial.given.problem, self._trial.changes)

        with self._heard() as heard:
            looks, trouble = self._tried(judging, None, heard)
        return JudgedPart(found, trouble, looks or {})

    def _said(self, law: OwnLaw, one: Examined) -> PartSaid:
        name = law.law.name
        weighed: list[Weighed] = []
        offered, title = law.offered(one), one.known.part.title
        if not offered:
            return PartSaid(name)
        try:
            weighed += law.judge(one)
        except LawBroken as error:
            size = error.size if isinstance(error, Beyond) else inf
            return PartSaid(name, True, None, f"{title}: {error}", error.ratio, size)
        except Exception as error:
            if line := self._refusal(error):
                return PartSaid(name, True, refused=line)
            raise
        if not weighed:
            return PartSaid(name, True)
        largest = max(one.ratio for one in weighed)
        return PartSaid(name, True, Weighed(largest, min(one.notices for one in weighed)))
