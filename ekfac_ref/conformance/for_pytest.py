"""The laws as tests of your own, one for each.

.. code-block:: python

    from ekfac_ref.conformance.for_pytest import conformance_tests
    from my_library import my_ekfac

    test_ekfac = conformance_tests(my_ekfac, known={"kernel": "truncated on purpose"})

All laws are asked in one run, when the first of the tests starts, and in the process of the tests:
what ends it ends them. A law that no problem was fit to be asked of fails: it has not been checked,
and green would say that it has.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ekfac_ref.conformance.findings.known import KnownDeviations, as_known
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Status, Verdict
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.reports.terminal import printable
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import Profile, profile_named
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.subjects.subject import as_subject

_ANSWERS = "enough is answered"  # not a law, but what they all need


def conformance_tests(
    thing: Any,
    profile: Profile | str = "quick",
    seed: int = 0,
    known: KnownDeviations | Mapping[str, str] | None = None,
    seconds: float = 60.0,
    name: str = "subject",
) -> Callable[[str], None]:
    """A test function with one case per law; give it a name that starts with ``test``.

    Args:
        thing: a function from a problem to {layer: operator}, an object with a method ``ekfac``,
            or a Subject.
        profile: demo, quick, full, or one of your own.
        seed: of the problems.
        known: reasons of known deviations, by the law's name, or those of laws, features and
            refusals. Such a law has to be broken: that it holds after all is a failure, too.
        seconds: for all laws on one problem.
        name: how messages call a subject that has no name of its own.
    """
    chosen = profile_named(profile) if isinstance(profile, str) else profile
    run = Run(Here(as_subject(thing, name), seconds), chosen, seed, known=as_known(known))

    @functools.cache
    def report() -> Report:
        # Warnings are the kit's and torch's own; where they are errors they would stop it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run.report()

    @pytest.mark.parametrize("law", [_ANSWERS, *LAWS], ids=lambda law: law.replace(" ", "-"))
    def test(law: str) -> None:
        found = report()
        if not found.complete:
            pytest.exit("interrupted", returncode=2)  # the run has caught it to keep its report
        if law == _ANSWERS:
            _answers(found)
        else:
            _judge(next(v for v in found.verdicts if v.law.name == law))

    return test


def _answers(report: Report) -> None:
    if unseen := [one.sentence for one in report.deviations if not one.shown]:
        pytest.fail(printable("\n".join(unseen)), pytrace=False)
    if report.troubles or report.too_few:
        first = [*report.troubles, *report.refused][0]
        alone = first.problem.script(None, None) if first.problem else ""
        more = f"\n\nthe first of them:\n\n{alone}\n{first.traceback}"
        pytest.fail(printable(f"{report.summary}\n{first.what}{more}"), pytrace=False)


def _judge(verdict: Verdict) -> None:
    law, status = verdict.law, verdict.status
    if status is Status.NOT_OFFERED:
        pytest.skip(f"not offered: it needs {law.lane.value}")
    if status is Status.REFUSED:
        pytest.skip(f"refused: {verdict.refused[1]}")
    if status is Status.EXPECTED_FAILURE:
        pytest.xfail(f"{verdict.reason} ({verdict.broken})")
    if status is Status.UNEXPECTED_PASS:
        _fail(law, f"it holds, but is known as a deviation: {verdict.reason!r}; no longer name it")
    if status is Status.INCONCLUSIVE:
        why = "answers far off would pass, too" if verdict.asked else "it was asked of no problem"
        _fail(law, f"{why}; take a larger profile")
    if verdict.problem is not None:  # broken, or in doubt
        alone = verdict.problem.script(law.name, None)
        _fail(law, f"{verdict.broken}\non this problem, which runs alone:\n\n{alone}")


def _fail(law: Law, what: str) -> None:
    statement = f"{law.name}: {law.statement}" + (f" [{law.source}]" if law.source else "")
    pytest.fail(printable(f"{statement}\n{what}"), pytrace=False)
