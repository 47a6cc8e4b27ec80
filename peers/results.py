"""What all libraries answered and what the findings printed: renewed one by one, and kept."""

import datetime
import json
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, TypedDict

from peers.catalogue import FINDINGS
from peers.environments import ROOT, checked, installed, script
from peers.libraries import Library

KEPT = ROOT / "peers" / "results.json"
AT_ONCE = 2  # processes, as cores


class Results(TypedDict):
    """What ``results.json`` holds.

    Attributes:
        reports: {library: {subject: its report, with the date}}.
        told: {finding: what its script printed}.
        left_out: {library: the reason}.
        minutes: that the last whole run took; 0 if something was asked by itself since.
    """

    reports: dict[str, dict[str, dict[str, Any]]]
    told: dict[str, str]
    left_out: dict[str, str]
    minutes: int


def read() -> Results:
    """Those of the last run."""
    if not KEPT.exists():
        return Results(reports={}, told={}, left_out={}, minutes=0)
    kept: Results = json.loads(KEPT.read_text())
    return kept


def renewed(before: Results, chosen: list[Library], profile: str, seed: int) -> Results:
    """Those of the chosen libraries anew, and of the others as before.

    Each is kept as it comes: what a run that is cut short did not get to stays as it was, and so
    does a report that failed, whose error is raised when all others are there.
    """
    started = time.monotonic()
    whole = {one.name for one in chosen} >= set(before["reports"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = _prepared(before, chosen, pool.map(installed, chosen))
        there = [one for one in chosen if one.name not in results["left_out"]]
        # The last one compiles every network and takes longest: no process is to wait for it.
        asked: dict[Future[Any], tuple[str, str]] = {
            pool.submit(checked, one, subject, profile, seed): (one.name, subject)
            for one in reversed(there)
            for subject in one.subjects
        }
        told: dict[Future[Any], str] = {  # behind them, as they are short
            pool.submit(script, one, finding.script): finding.id
            for one in there
            for finding in FINDINGS
            if finding.library == one.name
        }
        for answer in as_completed([*asked, *told]):
            if answer.exception() is None:
                if answer in told:
                    results["told"][told[answer]] = answer.result()
                else:
                    name, subject = asked[answer]
                    date = {"date": datetime.date.today().isoformat()}
                    results["reports"][name][subject] = answer.result() | date
                _keep(results)
    for answer in (*asked, *told):
        answer.result()
    results["minutes"] = round((time.monotonic() - started) / 60) if whole else 0
    _keep(results)
    return read()  # in the order in which they are read again


def _prepared(before: Results, chosen: list[Library], reasons: Iterable[str]) -> Results:
    """Without libraries that cannot be installed, and without subjects that are no more."""
    results = Results(
        reports=dict(before["reports"]),
        told=dict(before["told"]),
        left_out=dict(before["left_out"]),
        minutes=0,
    )
    for one, reason in zip(chosen, reasons, strict=True):
        of_before = results["reports"].pop(one.name, {})
        results["left_out"].pop(one.name, None)
        if reason:
            results["left_out"][one.name] = reason
        else:
            results["reports"][one.name] = {
                subject: report for subject, report in of_before.items() if subject in one.subjects
            }
    return results


def _keep(results: Results) -> None:
    beside = KEPT.with_suffix(".new")
    beside.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    beside.replace(KEPT)  # at once, so that a cut leaves one of the two whole
