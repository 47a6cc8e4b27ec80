"""A report for programs: plain dicts, lists, strings and numbers, ready for ``json.dumps``.

The status of a law is the text that other reports print, one of the values of ``Status``.
"""

import math
from dataclasses import asdict
from typing import Any

from ekfac_ref.conformance.findings.board import Score
from ekfac_ref.conformance.findings.causes import Exhibit, Refusal
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Trouble, Verdict


def as_dict(report: Report, subject: str | None, rerun: str) -> dict[str, Any]:
    """The whole report.

    ``subject`` is the path that problems as Python load, None for an unknown one; ``rerun`` is the
    command that makes the same run again.
    """
    return {
        "subject": report.subject,
        "summary": report.summary,
        "exit_code": report.exit_code,
        "sentences": report.sentences,
        "scoreboard": [_score(score) for score in report.scoreboard],
        "profile": report.profile,
        "seed": report.seed,
        "digest": report.digest,
        "complete": report.complete,
        "problems": report.problems,
        "asked": report.asked,
        "about": report.about,
        "unresolved": list(report.unresolved),
        "answered": report.answered,
        "causes": [_cause(report, exhibit, subject) for exhibit in report.exhibits],
        "refusals": [_refusal(report, refusal, subject) for refusal in report.refusals],
        "deviations": [asdict(deviation) for deviation in report.deviations],
        "verdicts": [_verdict(verdict, subject) for verdict in report.verdicts],
        "troubles": [_trouble(trouble, subject) for trouble in report.troubles],
        "diagnosis": report.diagnosis,
        "notes": list(report.notes),
        "given_up": report.given_up,
        "own_process": report.apart,
        "printed": report.printed,
        "rerun": rerun,
    }


def _verdict(verdict: Verdict, subject: str | None) -> dict[str, Any]:
    law, problem = verdict.law, verdict.problem
    return {
        "law": law.name,
        "lane": law.lane.name.lower(),
        "statement": law.statement,
        "source": law.source,
        "status": verdict.status.value,
        "asked": verdict.asked,
        "worst": _finite(verdict.worst),
        "broken": verdict.broken,
        "notices": verdict.notices and [_finite(x) for x in verdict.notices],
        "problem": None if problem is None else problem.script(law.name, subject),
        "reason": verdict.reason,
        "refused": list(verdict.refused),
    }


def _score(score: Score) -> dict[str, Any]:
    worst = score.worst and {
        "ratio": _finite(score.worst.ratio),
        "size": _finite(score.worst.size),
    }
    return asdict(score) | {"standing": score.standing.value, "worst": worst}


def _cause(report: Report, exhibit: Exhibit, subject: str | None) -> dict[str, Any]:
    cause = exhibit.cause
    return {
        "sentence": cause.sentence,
        "where": cause.attributed and asdict(cause.attributed),
        "laws": list(cause.laws),
        "problems": list(cause.problems),
        "features": [list(report.outcomes[number].features) for number in cause.problems],
        "asked": cause.asked,
        "problem": exhibit.problem.script(exhibit.law.name, subject),
    }


def _refusal(report: Report, refusal: Refusal, subject: str | None) -> dict[str, Any]:
    return _trouble(report.first_of(refusal), subject) | {
        "says": refusal.says,
        "sentence": refusal.sentence,
        "where": [asdict(one) for one in refusal.attributed],
        "problems": list(refusal.problems),
        "drawn": refusal.drawn,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None  # JSON has no infinity


def _trouble(trouble: Trouble, subject: str | None) -> dict[str, Any]:
    return {
        "what": trouble.what,
        "traceback": trouble.traceback,
        "printed": trouble.printed,
        "problem": trouble.problem and trouble.problem.script(None, subject),
        "blame": trouble.blame.value,
    }
