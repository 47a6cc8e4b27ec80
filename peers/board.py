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
        size: how far a law is off, in units of what it compares; None where nothing is.
        why: the ids of findings, or the explanation.
        problems: how many had the feature, or were asked.
        claimed: whether its documentation names the feature.
    """

    verdict: Verdict
    size: float | None = None
    why: str = ""
    problems: int = 0
    claimed: bool = False

    @property
    def is_unanswered_claim(self) -> bool:
        """Whether it is claimed, and no problem with it was answered and told."""
        unanswered = (Verdict.NOT_ANSWERED, Verdict.NOT_DRAWN, Verdict.REFUSES)
        return self.claimed and self.verdict in unanswered


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
            if verdict["broken"]:
                cell = _of_law(library, law, asked, report)
            else:
                cell = Cell(_OF_STATUS.get(verdict["status"], Verdict.IN_DOUBT), problems=asked)
            found.setdefault(law, []).append(cell)
    return {name: _gravest(cells) for name, cells in found.items()}


def deviations(library: Library, reports: Reports) -> list[tuple[str, Cell]]:
    """Every feature with a deviation, and every cause that no feature explains."""
    features = by_feature(library, reports)
    graves = (Verdict.WRONG, Verdict.UNEXPLAINED, Verdict.EXPLAINED)
    found = [(name, cell) for name, cell in features.items() if cell.verdict in graves]
    for subject, report in reports.items():
        for cause in report["causes"]:
            laws = [law for law in cause["laws"] if law not in MANNERS]
            if laws and not _present(cause) and not _everywhere(cause):
                name = f"{subject}, nothing in common"
                everywhere = [
                    f for f in FINDINGS if f.library == library.name and f.features == EVERY
                ]
                cell = _deviates(library, name, None, cause["problems"], everywhere)
                found.append((f"{name} ({', '.join(laws)}; {cause['problems']} problems)", cell))
    return found


def _of_feature(library: Library, report: Mapping[str, Any], score: Mapping[str, Any]) -> Cell:
    name, drawn = score["name"], score["drawn"]
    claimed = name in library.claims
    everywhere = [f for f in FINDINGS if f.library == library.name and f.features == EVERY]
    if everywhere and score["broken"]:
        size = (score["worst"] or {}).get("size")
        return _deviates(library, name, size, drawn, everywhere)
    named = [f for f in FINDINGS if f.library == library.name and name in f.features]
    if named and score["broken"] and score["standing"] in ("exact", "in doubt"):
        # Many mistakes at once are told apart by the scripts, where a run blames their company.
        return _deviates(library, name, (score["worst"] or {}).get("size"), drawn, named)
    if score["standing"] != "wrong" and everywhere:
        left = {"exact": Verdict.IN_DOUBT}  # where a mistake that is everywhere makes no difference
        verdict = left.get(score["standing"], _OF_STANDING[score["standing"]])
        return Cell(verdict, problems=drawn, claimed=claimed)
    if score["standing"] == "refuses" and score["held"]:
        return Cell(Verdict.EXACT, problems=drawn, claimed=claimed)  # beside what it refuses
    if score["standing"] != "wrong":
        return Cell(_OF_STANDING[score["standing"]], problems=drawn, claimed=claimed)
    blamed = [cause for cause in report["causes"] if name in _present(cause)]
    general = [cause for cause in report["causes"] if _everywhere(cause)]
    laws = {law for cause in blamed or general for law in cause["laws"]} - {*MANNERS}
    if not laws and (blamed or general):  # by manners alone
        return Cell(Verdict.EXACT, problems=drawn, claimed=claimed)
    found = [f for f in FINDINGS if f.library == library.name and _concerns(f, name, laws)]
    size = (score["worst"] or {}).get("size")
    return _deviates(library, name, size, drawn, found)


def _concerns(finding: Finding, feature: str, laws: set[str]) -> bool:
    """Whether it is about this feature, or about all of them and one of these laws."""
    return feature in finding.features if finding.features else bool(laws & {*finding.laws})


def _of_law(library: Library, law: str, asked: int, report: Mapping[str, Any]) -> Cell:
    """By findings about what the causes of the broken law have in common, or by explanations."""
    blamed = [set(_present(cause)) for cause in report["causes"] if law in cause["laws"]]
    named = set().union(*blamed)
    own = [f for f in FINDINGS if f.library == library.name]
    found = [f for f in own if law in f.laws or (named & {*f.features} and not f.laws)]
    if found or law in MANNERS or not named:
        return _deviates(library, law, None, asked, found)
    known = {name for name in named if (library.name, name) in EXPLAINED}
    reasons = [f"{name}: {EXPLAINED[library.name, name]}" for name in sorted(known)]
    explained = all(known & names for names in blamed)  # every cause by one of its features
    verdict = Verdict.EXPLAINED if explained else Verdict.UNEXPLAINED
    return Cell(verdict, None, "; ".join(reasons), asked)


def _deviates(
    library: Library, name: str, size: float | None, problems: int, found: Sequence[Finding]
) -> Cell:
    claimed = name in library.claims
    if name in MANNERS:
        return Cell(Verdict.EXPLAINED, None, "asked by this kit alone", problems, claimed)
    if found:
        ids = ", ".join(finding.id for finding in found)
        sure = any(not finding.may_be_meant for finding in found)
        return Cell(Verdict.WRONG if sure else Verdict.EXPLAINED, size, ids, problems, claimed)
    if reason := EXPLAINED.get((library.name, name)):
        return Cell(Verdict.EXPLAINED, size, reason, problems, claimed)
    return Cell(Verdict.UNEXPLAINED, size, "", problems, claimed)


def _present(cause: Mapping[str, Any]) -> list[str]:
    """The features of a cause; of what is common to several, all of those."""
    if not cause["where"]:
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
