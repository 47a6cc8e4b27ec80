"""Where choices come from: a problem is drawn as a series of choices among a few things.

What draws it is given a ``Draw`` and does not know whether a seed stands behind it, as in a run, or
Hypothesis, which can look for smaller choices.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol, TypeVar, runtime_checkable

from hypothesis import strategies as st

T = TypeVar("T")
BOTH = (False, True)
DrawInteger = Callable[
    [st.SearchStrategy[int]], int
]  # of a composite; its own is no checkable type


@runtime_checkable
class Draw(Protocol):
    """``draw(options)`` is one of them.

    What stands there several times is drawn so many times as often. The first is the simplest: what
    a problem shrinks to. Equal options stand apart, since Hypothesis favours some places of a list.
    """

    def __call__(self, options: Sequence[T]) -> T: ...


def by_seed(seed: str) -> Draw:
    """Choices that depend on the seed alone.

    Hypothesis would try numbers that it finds in the modules which are imported, the code under
    test among them, and draws otherwise in every version. Of ``random``, Python promises the
    numbers of ``Random.random`` for all its versions, and of no other method.
    """
    numbers = Random(seed)

    def draw(options: Sequence[T]) -> T:
        return options[int(numbers.random() * len(options))]

    return draw


def by_hypothesis(draw: DrawInteger) -> Draw:
    """Choices of Hypothesis, which can be made smaller; ``draw`` is what a composite gets."""

    def choose(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    return choose
