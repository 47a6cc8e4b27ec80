"""A report as JUnit XML, which CI services show as tests: one for each law, one for the answers."""

from xml.etree import ElementTree

from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Status, Verdict
from ekfac_ref.conformance.reports.terminal import printable

# How a law came out, as the element that says so; a test without one has passed.
_OUTCOMES = {
    Status.FAIL: "failure",
    Status.UNEXPECTED_PASS: "failure",
    Status.IN_DOUBT: "error",
    Status.INCONCLUSIVE: "error",
    Status.NOT_OFFERED: "skipped",
    Status.EXPECTED_FAILURE: "skipped",
}


def as_junit(report: Report, rerun: str) -> str:
    """The whole report; ``rerun`` is the command that makes the same run again.

    A law that is broken is a failure, one that is open an error, one that was not to be asked, or
    is known to be broken, is skipped. One more test fails where problems got no answer, or where
    the run did not come to its end, so that the suite passes only where ``exit_code`` is 0.
    """
    suite = ElementTree.Element("testsuite", name=printable(f"ekfac-ref {report.subject}"))
    told = []
    for verdict in report.verdicts:
        outcome = _outcome(report, verdict)
        _test(suite, report, verdict.law.name, outcome, verdict.status.value, _text(verdict))
        told.append(outcome)
    stopped = report.exit_code in (3, 4, 6)
    lines = [report.summary, *(trouble.what for trouble in report.troubles), f"again: {rerun}"]
    _test(
        suite,
        report,
        "every problem is answered",
        "error" if stopped else None,
        report.summary,
        "\n".join(lines),
    )
    counted = {"failures": told.count("failure"), "skipped": told.count("skipped")}
    counted |= {"tests": len(suite), "errors": told.count("error") + stopped}
    suite.attrib |= {name: str(number) for name, number in counted.items()}
    return ElementTree.tostring(suite, "unicode", xml_declaration=True) + "\n"


def _outcome(report: Report, verdict: Verdict) -> str | None:
    """On a user's own problem a law may be too blunt for all blocks, and others tell."""
    if report.about and verdict.status is Status.INCONCLUSIVE and report.exit_code == 0:
        return "skipped"
    return _OUTCOMES.get(verdict.status)


def _test(
    suite: ElementTree.Element,
    report: Report,
    name: str,
    outcome: str | None,
    message: str,
    text: str,
) -> None:
    test = ElementTree.SubElement(suite, "testcase", classname=printable(report.subject), name=name)
    if outcome:
        ElementTree.SubElement(test, outcome, message=printable(message)).text = printable(text)


def _text(verdict: Verdict) -> str:
    law = verdict.law
    lines = [f"must hold: {law.statement}", verdict.broken and f"found: {verdict.broken}"]
    lines += [verdict.reason and f"known: {verdict.reason}"]
    if verdict.problem:
        lines += ["on this problem, which runs alone:", verdict.problem.script(law.name, None)]
    return "\n".join(filter(None, lines))
