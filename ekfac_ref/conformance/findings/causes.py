"""Laws that are broken by one mistake, put together; and refusals, by what is refused.

Laws of one quantity notice one mistake on different problems: a trace may be right by chance, a
comparison is only made where eigenvalues are apart. So the problems on which some law of the same
quantity is broken are attributed together: laws of E and its basis, of what solves, of KFAC, of
exact blocks. A law of manners, which is a matter of yes or no, stands for itself. What has one
cause in two of these groups is put together again.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ekfac_ref.conformance.findings.attribution.attribute import attribute
from ekfac_ref.conformance.findings.attribution.conjunction import Attributed, Conjunction
from ekfac_ref.conformance.findings.common import with_common
from ekfac_ref.conformance.findings.outcome import Outcome
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Lane, Law
from ekfac_ref.conformance.problems.source import Written

_WITH = {
    Lane.BASIS: Lane.EKFAC,
    Lane.OPAQUE: Lane.EKFAC,
    Lane.FACTORS: Lane.KFAC,
    Lane.PRECONDITION: Lane.SOLVE,
}
TEXTS = 8  # so many refusals are told one by one
# Names and numbers, which are others on another problem.
PARTICULARS = re.compile(r"'[^']*'|\d[\d.]*(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Cause:
    """What the problems have in common on which some laws are broken.

    Attributes:
        attributed: which features; None where none separate them from the others.
        laws: that are broken on some of them, the one with most of them first.
        problems: their numbers in the run.
        asked: how many problems those laws were asked of.
        things: what they are called, "problems" or "blocks".
    """

    attributed: Attributed | None
    laws: tuple[str, ...]
    problems: tuple[int, ...]
    asked: int
    things: str = "problems"

    @property
    def is_measured(self) -> bool:
        """Whether numbers are wrong, and not manners alone."""
        return any(LAWS[law].measures for law in self.laws)

    @property
    def sentence(self) -> str:
        """Where it is wrong, in words."""
        if self.attributed is None:
            return (
                f"Wrong on {len(self.problems)} of {self.asked} {self.things}, which have no "
                "features in common that the others lack."
            )
        return f"Wrong {where(self.attributed, self.things)}."


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One cause, with all laws that it breaks and one problem to look at.

    Attributes:
        cause: what its problems have in common.
        says: {law: what it says of the shortest of these problems that was found for it}.
        law: the one whose problem it is.
        problem: as text, one that breaks as many of the laws as any.
    """

    cause: Cause
    says: Mapping[str, str]
    law: Law
    problem: Written

    @classmethod
    def of(cls, cause: Cause, found: Sequence[tuple[Law, Written, str]]) -> "Exhibit":
        """Out of (law, problem, what it says) for each of the laws."""
        breaks = Counter(problem.text for _, problem, _ in found)
        law, problem, _ = min(found, key=lambda one: (-breaks[one[1].text], len(one[1].text)))
        return cls(cause, {law.name: says for law, _, says in found}, law, problem)


@dataclass(frozen=True)
class Refusal:
    """What is raised, and where.

    Attributes:
        says: the exception, the first of those that differ in names and numbers only.
        attributed: the features that are refused; none where nothing separates them.
        problems: numbers of the problems that were refused so.
        drawn: how many problems there are.
    """

    says: str
    attributed: tuple[Attributed, ...]
    problems: tuple[int, ...]
    drawn: int

    @property
    def sentence(self) -> str:
        """What it refuses, in words."""
        told = "".join(f", {where(one)}" for one in self.attributed if one.sure)
        return f"Refuses {len(self.problems)} of {self.drawn} problems{told}: {self.says}"

    @property
    def features(self) -> set[str]:
        """The names of what is refused."""
        return {name for one in self.attributed if one.sure for name in one.where.present}


def where(one: Attributed, things: str = "problems") -> str:
    """In which problems, or blocks, and how many of them back that."""
    if one.where == Conjunction():
        return f"on every {things[:-1]} ({one.faulty})"
    named = str(one.where)
    if one.also:
        named += f" (or {', or '.join(one.also)}, which came with it)"
    how = "exactly" if one.faulty == one.meant else "only" if one.whole else "mostly"
    found = f"{how} where {named}: {one.faulty} of {one.meant} such {things}"
    found += f", 0 of {one.others - one.meant + one.faulty} others"
    return found if one.sure else f"{found}; it may be a coincidence"


def causes(outcomes: Sequence[Outcome], laws: Sequence[Law]) -> list[Cause]:
    """One for each mistake that can be told apart, that with most problems first."""
    found: dict[object, Cause] = {}
    for names in _groups(laws):
        for cause in _of_group(outcomes, names):
            key = cause.attributed and cause.attributed.where
            found[key] = _together(found[key], cause) if key in found else cause
    return sorted(found.values(), key=lambda cause: -len(cause.problems))


def refusals(outcomes: Sequence[Outcome]) -> list[Refusal]:
    """One for each text that is raised, that with most problems first.

    A problem with two features that are refused is refused for one of them: what was refused
    otherwise is no witness against either.
    """
    numbers = [i for i, one in enumerate(outcomes) if one.refusal]
    kinds = _by(lambda text: PARTICULARS.sub("", text), outcomes, numbers)
    if len(kinds) > TEXTS:  # more particular than that: by the kind of exception and the line
        kinds = _by(
            lambda text: f"{text.partition(':')[0]}{text.rpartition('(')[2]}", outcomes, numbers
        )
    answered = [one.features for one in outcomes if one.is_answered]
    found = []
    for numbers in kinds.values():
        features = [outcomes[i].features for i in numbers]
        separated = attribute([*features, *answered], range(len(features)))
        says = outcomes[numbers[0]].refusal
        found.append(Refusal(says, separated.causes, tuple(numbers), len(outcomes)))
    return sorted(found, key=lambda refusal: -len(refusal.problems))


def _by(
    key: Callable[[str], str], outcomes: Sequence[Outcome], numbers: Sequence[int]
) -> dict[str, list[int]]:
    """Numbers of problems by something about what was raised."""
    kinds: dict[str, list[int]] = {}
    for i in numbers:
        kinds.setdefault(key(outcomes[i].refusal), []).append(i)
    return kinds


def _groups(laws: Sequence[Law]) -> list[list[str]]:
    found: dict[object, list[str]] = {}
    for law in laws:
        key = _WITH.get(law.lane, law.lane) if law.measures else law.name
        found.setdefault(key, []).append(law.name)
    return list(found.values())


def _of_group(outcomes: Sequence[Outcome], names: list[str]) -> list[Cause]:
    """A problem of which it is open whether a law holds is neither right nor wrong."""
    wrong = {i: [n for n in names if n in one.broken] for i, one in enumerate(outcomes)}
    wrong = {i: laws for i, laws in wrong.items() if laws}
    if not wrong:
        return []
    features = [with_common(one.features) for one in outcomes]
    right = [
        with_common(one.shown)
        for i, one in enumerate(outcomes)
        if i not in wrong and one.held & {*names} and not one.doubted & {*names}
    ]
    numbers = list(wrong)
    separated = attribute([*(features[i] for i in numbers), *right], range(len(numbers)))
    left, found = set(numbers), []
    for one in separated.causes:
        mine = [i for i in numbers if one.where.holds(features[i])]
        found.append(Cause(one, _laws(wrong, mine, names), tuple(mine), separated.asked))
        left -= {*mine}
    if left:
        found.append(Cause(None, _laws(wrong, left, names), tuple(sorted(left)), separated.asked))
    return found


def _laws(
    wrong: dict[int, list[str]], problems: Collection[int], names: list[str]
) -> tuple[str, ...]:
    times = {name: sum(name in wrong[i] for i in problems) for name in names}
    return tuple(sorted((n for n in names if times[n]), key=lambda n: -times[n]))


def _together(one: Cause, other: Cause) -> Cause:
    problems = tuple(sorted({*one.problems, *other.problems}))
    laws = (*one.laws, *other.laws)
    attributed = max(one, other, key=lambda cause: len(cause.problems)).attributed
    return Cause(attributed, laws, problems, max(one.asked, other.asked))
