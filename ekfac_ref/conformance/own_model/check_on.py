"""A subject on a problem of the user's own, from Python as on the command line."""

from collections.abc import Collection, Mapping
from typing import Any

from ekfac_ref.conformance.findings.known import KnownDeviations, as_known
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.own_model.own_examiner import OwnHere
from ekfac_ref.conformance.own_model.own_run import ASKABLE, OwnRun
from ekfac_ref.conformance.subjects.subject import as_subject
from ekfac_ref.errors import ProblemError, no_such
from ekfac_ref.question.problem import Problem

HOUR = 3600.0  # for the answers to a problem of one's own; and for all laws on one block


def check_on(
    thing: Any,
    problem: Problem,
    *,
    laws: Collection[str] | None = None,
    known: KnownDeviations | Mapping[str, str] | None = None,
    seed: int = 0,
    seconds: float = HOUR,
) -> Report:
    """The verdict of every law on a subject's answers to one problem, with layers of any size.

    No matrix P x P is ever written down: laws are asked by products with a few random vectors, and
    of what the answer shows beside. ``ekfac-ref check SUBJECT --problem MODULE:NAME`` does the same
    in a process of its own. docs/own_model.md says what is asked, and to which precision.

    Args:
        thing: a function from a problem to {layer: operator}, an object with a method ``ekfac``,
            ``kfac`` or ``precondition``, or a Subject. Of its abilities those matter that a
            problem chooses: a likelihood, Fisher, sharing or dtype that it does not declare.
        problem: on the CPU; it is read once into memory, and the subject gets copies.
        laws: names of those that are asked; None stands for all.
        known: reasons of known deviations, by the law's name.
        seed: of the random vectors.
        seconds: for the subject's answers, and for all laws on one block; on the main thread.

    Returns:
        The report: ``exit_code``, ``summary``, a verdict for each law, and in ``sentences`` what
        those blocks have in common on which a law is broken.

    Raises:
        ProblemError: there is no such law, the thing cannot be asked, or the problem is none, or
            none that has a right answer: the message names what is wrong with it.
    """
    for name in laws or ():
        if name not in ASKABLE:
            raise no_such("laws", name, ASKABLE)
    if not isinstance(problem, Problem):
        raise ProblemError(
            f"problem: a {type(problem).__name__}; pass an ekfac_ref.Problem(model, batches, "
            "likelihood)."
        )
    examiner = OwnHere(as_subject(thing, "subject"), seconds)
    examiner.begin(problem, seed)
    run = OwnRun(examiner, "the problem", seed, laws or ASKABLE, as_known(known))
    return run.report()
