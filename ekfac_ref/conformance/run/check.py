"""All laws asked of a subject, from Python as on the command line."""

from collections.abc import Collection, Mapping
from typing import Any

from ekfac_ref.conformance.findings.known import KnownDeviations, as_known
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import Profile, profile_named
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.subjects.subject import as_subject
from ekfac_ref.errors import no_such


def check(
    thing: Any,
    profile: Profile | str = "quick",
    seed: int = 0,
    *,
    laws: Collection[str] | None = None,
    known: KnownDeviations | Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Report:
    """The verdict of every law on a subject, as ``ekfac-ref check`` gives it.

    The subject is asked in this process: one that ends the process ends the check. The command has
    a process of its own for it.

    Args:
        thing: a function from a problem to {layer: operator}, an object with a method ``ekfac`` or
            another of ``WAYS`` (``subject.py``), or a Subject.
        profile: demo, quick or full, or one of your own: how many problems are drawn.
        seed: of the problems.
        laws: names of those that are asked; None stands for all.
        known: reasons of known deviations, by the law's name, or those of laws, features and
            refusals. Such a law has to be broken: that it holds after all is a failure, too.
        seconds: for all laws on one problem, on the main thread; what takes longer is no answer.

    Returns:
        The report: ``exit_code``, ``summary``, a verdict for each law, and where the subject does
        not conform the ``diagnosis``, which mistake it looks like. An interrupt ends the run and
        the report says so.

    Raises:
        ProblemError: there is no such law or profile, or the thing cannot be asked.
    """
    for name in laws or ():
        if name not in LAWS:
            raise no_such("laws", name, LAWS)
    run = Run(
        Here(as_subject(thing, "subject"), seconds),
        profile_named(profile) if isinstance(profile, str) else profile,
        seed,
        [law for law in LAWS.values() if laws is None or law.name in laws],
        as_known(known),
    )
    return run.diagnosed(run.report())
