"""The board: for every library a verdict on every feature and on every law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ekfac_ref.conformance.findings.common import COMMON
from peers.catalogue import EVERY, EXPLAINED, FINDINGS, MANNERS, Finding
from peers.libraries import Library

Reports = Mapping[str, Mapping[str, Any]]  # of the subjects of one library, as ``kept`` has them


class Verdict(Enum):
    """Of a library on a feature or law, the gravest first; the value is what the page prints."""

    WRONG = "wrong"
    UNEXPLAINED = "not explained"
    EXPLAINED = "deviates, explained"
    EXACT = "exact"
    IN_DOUBT = "in doubt"
    REFUSES = "refuses"
    NOT_ANSWERED = "not answered"
    NOT_DRAWN = "not drawn"


@dataclass(frozen=True)
class Cell:
    """One verdict.

    Attributes:
        verdict: the gravest over the library's subjects.
        why: the ids of findings, or the explanation.
        problems: how many had the feature, or were asked.
        claimed: whether its documentation names the feature.
    """

    verdict: Verdict
    why: str = ""
    problems: int = 0
    claimed: bool = False

    @property
    def is_unanswered_claim(self) -> bool:
        """Whether it is claimed, and no problem with it was answered and told."""
        unanswered = (Verdict.NOT_ANSWERED, Verdict.NOT_DRAWN, Verdict.REFUSES)
        return self.claimed and self.verdict in unanswered


@dataclass(frozen=True)
class Deviation:
    """What a run told apart as one cause of wrong answers, and what is known of it.

    Attributes:
        subject: whose run.
        sentence: where it is wrong, as the report has it.
        laws: that it breaks.
        verdict: WRONG by a finding, EXPLAINED, or UNEXPLAINED.
        why: the ids of findings, or the explanation.
    """

    subject: str
    sentence: str
    laws: tuple[str, ...]
    verdict: Verdict
    why: str


MOST = 0.5  # of the problems: a mistake there says nothing about features
_ORDER = list(Verdict)
_OF_STANDING = {
    "exact": Verdict.EXACT,
    "refuses": Verdict.REFUSES,
    "in doubt": Verdict.IN_DOUBT,
    "not answered": Verdict.NOT_ANSWERED,
    "not drawn": Verdict.NOT_DRAWN,
}
_OF_STATUS = {"pass": Verdict.EXACT, "not offered": Verdict.NOT_DRAWN}


def by_feature(library: Library, reports: Reports) -> dict[str, Cell]:
    """{feature: cell}, over all subjects of the library.

    What one of several gets wrong on every problem says nothing about features: see ``by_law``.
    """
    found: dict[str, list[Cell]] = {}
    telling = [report for report in reports.values() if not _wrong_everywhere(report)]
    for report in telling or reports.values():
        for score in report["scoreboard"]:
            cell = _of_feature(library, report, score)
            found.setdefault(score["name"], []).append(cell)
    return {name: _gravest(cells) for name, cells in found.items()}


def by_law(library: Library, reports: Reports) -> dict[str, Cell]:
    """{law: cell}, over all subjects of the library."""
    found: dict[str, list[Cell]] = {}
    for report in reports.values():
        for verdict in report["verdicts"]:
            law, asked = verdict["law"], verdict["asked"]
            cells = [Cell(_OF_STATUS.get(verdict["status"], Verdict.IN_DOUBT), problems=asked)]
            if verdict["broken"] and law in MANNERS:
                cells = [Cell(Verdict.EXPLAINED, "asked by this kit alone", asked)]
            elif verdict["broken"]:
                blamed = [cause for cause in report["causes"] if law in cause["laws"]]
                known = [_explained(library, cause) for cause in blamed]
                known = known or [(Verdict.UNEXPLAINED, "")]
                cells = [Cell(*one, problems=asked) for one in known]
            found.setdefault(law, []).extend(cells)
    return {name: _gravest(cells) for name, cells in found.items()}


def deviations(library: Library, reports: Reports) -> list[Deviation]:
    """Every cause of wrong answers, those of manners left out."""
    return [
        Deviation(
            subject,
            cause["sentence"],
            tuple(cause["laws"]),
            *_explained(library, cause),
        )
        for subject, report in reports.items()
        for cause in report["causes"]
        if {*cause["laws"]} - {*MANNERS}
    ]


def _explained(library: Library, cause: Mapping[str, Any]) -> tuple[Verdict, str]:
    """By findings about its features, by explanations of these, or by those of all its problems."""
    own = [one for one in FINDINGS if one.library == library.name]
    if found := [one for one in own if _explains(one, cause)]:
        sure = any(not one.may_be_meant for one in found)
        return Verdict.WRONG if sure else Verdict.EXPLAINED, ", ".join(one.id for one in found)
    reasons = {of: why for (name, of), why in EXPLAINED.items() if name == library.name}
    if told := [f"{name}: {reasons[name]}" for name in _present(cause) if name in reasons]:
        return Verdict.EXPLAINED, "; ".join(told)
    known = {*reasons}.union(*(one.features for one in own))
    having = [known & {*features} for features in cause.get("features", ())]
    if having and all(having):
        names = ", ".join(sorted(set().union(*having)))
        return Verdict.EXPLAINED, f"each of these problems has what is told elsewhere: {names}"
    return Verdict.UNEXPLAINED, ""


def _explains(finding: Finding, cause: Mapping[str, Any]) -> bool:
    """Whether it is about one of its features; or, without any, about what is wrong everywhere."""
    if finding.features == EVERY:
        return True
    if finding.features:
        return bool({*finding.features} & {*_present(cause)})
    return _everywhere(cause) and bool({*finding.laws} & {*cause["laws"]})


def _of_feature(library: Library, report: Mapping[str, Any], score: Mapping[str, Any]) -> Cell:
    name, problems, claimed = score["name"], score["drawn"], score["name"] in library.claims

    def cell(verdict: Verdict, why: str = "") -> Cell:
        return Cell(verdict, why, problems, claimed)

    own = [one for one in FINDINGS if one.library == library.name]
    causes = [cause for cause in report["causes"] if {*cause["laws"]} - {*MANNERS}]
    blamed = [cause for cause in causes if name in _present(cause)]
    blamed = blamed or [cause for cause in causes if _everywhere(cause)]
    if score["standing"] == "wrong" and not blamed:
        return cell(Verdict.EXACT)  # by manners alone
    named = [one for one in own if name in one.features or one.features == EVERY]
    # Many mistakes at once are told apart by the scripts, where a run blames their company.
    if named and score["broken"] and score["standing"] in ("exact", "in doubt", "wrong"):
        sure = any(not one.may_be_meant for one in named)
        ids = ", ".join(one.id for one in named)
        return cell(Verdict.WRONG if sure else Verdict.EXPLAINED, ids)
    if score["standing"] == "exact" and any(one.features == EVERY for one in own):
        return cell(Verdict.IN_DOUBT)  # where a mistake that is everywhere makes no difference
    if score["standing"] == "refuses" and score["held"]:
        return cell(Verdict.EXACT)  # beside what it refuses
    if score["standing"] != "wrong":
        return cell(_OF_STANDING[score["standing"]])
    known = [_explained(library, cause) for cause in blamed]
    if any(verdict is Verdict.UNEXPLAINED for verdict, _ in known):
        return cell(Verdict.UNEXPLAINED)
    if reason := EXPLAINED.get((library.name, name)):
        return cell(Verdict.EXPLAINED, reason)
    return cell(Verdict.EXACT if score["held"] else Verdict.IN_DOUBT)  # its company is at fault


def _present(cause: Mapping[str, Any]) -> list[str]:
    """The features of a cause, unless they may be a coincidence; of what is common, all."""
    if not cause["where"] or not cause["where"]["sure"]:
        return []
    names = [*cause["where"]["where"]["present"], *cause["where"]["also"]]
    return [feature for name in names for feature in COMMON.get(name, (name,))]


def _wrong_everywhere(report: Mapping[str, Any]) -> bool:
    """By a cause that is everywhere, or by any on half of what is answered in the kit's own way."""
    if any(_everywhere(c) and {*c["laws"]} - {*MANNERS} for c in report["causes"]):
        return True
    every = [score for score in report["scoreboard"] if score["name"] == "expand"]
    return any(s["broken"] > MOST * max(1, s["drawn"] - s["refused"]) for s in every)


def _everywhere(cause: Mapping[str, Any]) -> bool:
    where = cause["where"]
    return bool(where) and not where["where"]["present"] and not where["where"]["absent"]


def _gravest(cells: Sequence[Cell]) -> Cell:
    return min(cells, key=lambda cell: _ORDER.index(cell.verdict))
