"""Mistakes in the problem that a user poses: neither the subject's nor the kit's."""

from collections.abc import Iterator
from contextlib import contextmanager

from ekfac_ref.conformance.run.raised import message, place
from ekfac_ref.errors import ProblemError


class MistakenProblem(ProblemError):
    """The problem is at fault, whoever is asked; the message names the culprit and the way out."""


@contextmanager
def as_mistakes(name: str = "") -> Iterator[None]:
    """Every ProblemError inside is a mistake in the problem, and told with its name, if any."""
    try:
        yield
    except ProblemError as error:
        raise MistakenProblem(f"problem {name!r}: {error}" if name else str(error)) from error


@contextmanager
def of_the_users(what: str, advice: str) -> Iterator[None]:
    """Around a call into the problem's own code, whatever that raises: then a ProblemError."""
    try:
        yield
    except ProblemError:
        raise
    except (Exception, SystemExit) as error:
        raise ProblemError(f"{what} raised {message(error)}{place(error)}; {advice}.") from error
