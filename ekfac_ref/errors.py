"""The one exception of this package: what is wrong, where, and what to do about it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

import torch


class ProblemError(ValueError):
    """A problem that has no right answer here; the message names the culprit and the way out."""


def no_such(what: str, name: object, among: Iterable[str]) -> ProblemError:
    """For a name that is none: what it is a name of, the nearest that there is, and all."""
    names = list(among)
    near = get_close_matches(str(name), names, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ";"
    return ProblemError(f"{what}: there is no {name!r}{meant} choose among {names}.")


def of_memory(error: BaseException) -> bool:
    """Whether it says that memory did not suffice, on whichever device."""
    said = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in said)
    )


def among(names: Iterable[str], name: str) -> str:
    """Which of the names there are to choose from, and which one is most like what was given."""
    there = list(names)
    meant = "".join(f"did you mean {n!r}? " for n in get_close_matches(name, there, n=1))
    return f"{meant}choose among {there}"


def first_line(error: BaseException) -> str:
    """What an error says, without the advice that torch adds in further lines."""
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


@contextmanager
def enough_memory() -> Iterator[None]:
    """Whatever runs out of memory inside ends in a ProblemError that says what takes how much."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not of_memory(error):
            raise
        raise ProblemError(
            f"memory: it does not suffice ({first_line(error)}); pass smaller batches, or name "
            "fewer or smaller layers in Problem(layers=...): kfac and ekfac keep d_in^2 + d_out^2 "
            "numbers of a layer, exact_fisher and dense() (d_in d_out)^2, full_fisher the square "
            "of all parameters."
        ) from error
