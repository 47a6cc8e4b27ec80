"""Everything of the caller's that could be changed, in a form that ``==`` compares."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping

from ekfac_ref.conformance.subjects.snapshot import snapshot

__all__ = ["as_users_run_it", "snapshot"]


@contextmanager
def as_users_run_it() -> Iterator[None]:
    """Without the type checks of the test run: they would be first to refuse an argument, and
    beartype draws from Python's random numbers to choose which items of a list to check.

    Functions inside of functions would still be prepared for checks at every call, which takes a
    third of the time.
    """
    prepare = jaxtyping.jaxtyped
    jaxtyping.config.update("jaxtyping_disable", True)
    jaxtyping.jaxtyped = lambda typechecker: lambda function: function
    try:
        yield
    finally:
        jaxtyping.jaxtyped = prepare
        jaxtyping.config.update("jaxtyping_disable", False)
