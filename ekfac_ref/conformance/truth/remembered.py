"""What is computed once of each observation, for every law and every mutant asks for it."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from ekfac_ref.conformance.truth.observation import Observation

_T = TypeVar("_T")


def remembered(compute: Callable[[Observation], _T]) -> Callable[[Observation], _T]:
    """A pure function of an observation, with its results remembered.

    By the object, as long as that lives: it is frozen, and nobody may write to its tensors
    (``cache.py``). Neither to those of a result.
    """
    known: WeakKeyDictionary[Observation, _T] = WeakKeyDictionary()

    @wraps(compute)
    def looked_up(seen: Observation) -> _T:
        if seen not in known:
            known[seen] = compute(seen)
        return known[seen]

    return looked_up
