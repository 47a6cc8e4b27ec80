"""A report for programs: plain dicts, lists, strings and numbers, ready for ``json.dumps``.

The status of a law is the text that other reports print, one of the values of ``Status``.
"""

import math
from typing import Any

from ekfac_ref.conformance.run.verdicts import Report, Trouble, Verdict


def as_dict(report: Report, subject: str | None, rerun: str) -> dict[str, Any]:
    """The whole report.

    ``subject`` is the path that problems as Python load, None for an unknown one; ``rerun`` is the
    command that makes the same run again.
    """
    return {
        "subject": report.subject,
        "profile": report.profile,
        "seed": report.seed,
        "digest": report.digest,
        "complete": report.complete,
        "exit_code": report.exit_code,
        "summary": report.summary,
        "problems": report.problems,
        "answered": report.answered,
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
        "worst": verdict.worst if math.isfinite(verdict.worst) else None,  # JSON has no infinity
        "broken": verdict.broken,
        "problem": None if problem is None else problem.script(law.name, subject),
        "reason": verdict.reason,
    }


def _trouble(trouble: Trouble, subject: str | None) -> dict[str, Any]:
    return {
        "what": trouble.what,
        "traceback": trouble.traceback,
        "printed": trouble.printed,
        "problem": trouble.problem and trouble.problem.script(None, subject),
        "blame": trouble.blame.value,
    }
