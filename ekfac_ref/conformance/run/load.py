"""What stands at module:name: a subject, on the command line or in a pasted script; a problem."""

import importlib
from typing import Any

from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.run.raised import message
from ekfac_ref.conformance.subjects.subject import Subject, as_subject
from ekfac_ref.errors import ProblemError, among

MUTANT = "mutant:"  # in front of a mutant's name


def load(path: str) -> Subject:
    """The subject at ``package.module:name``, or the known mistake at ``mutant:name``.

    Raises:
        ProblemError: nothing is there, its module cannot be imported, or it cannot be asked.
    """
    if path.startswith(MUTANT):
        name = path.removeprefix(MUTANT)
        if name not in MUTANTS:
            raise ProblemError(f"subject {path!r}: no such mutant; {among(MUTANTS, name)}.")
        return MUTANTS[name].subject
    return as_subject(standing_at(path, "subject"), path)


def standing_at(path: str, what: str) -> Any:
    """Whatever is at ``package.module:name``; ``what`` it is meant to be is for messages.

    Raises:
        ProblemError: nothing is there, or its module cannot be imported.
    """
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise ProblemError(
            f"{what} {path!r}: no module and name in it; write it as package.module:name."
        )
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise ProblemError(
            f"{what} {path!r}: {module} cannot be imported ({message(error)}); "
            "run from the folder that holds it, or install it."
        ) from error
    if not hasattr(found, attribute):
        there = [name for name in vars(found) if not name.startswith("_")]
        raise ProblemError(
            f"{what} {path!r}: {module} has no {attribute!r}; {among(there, attribute)}."
        )
    return getattr(found, attribute)
