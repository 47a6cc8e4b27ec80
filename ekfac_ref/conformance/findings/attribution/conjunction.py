"""Features that come together, or are absent, and how well they separate wrong from right."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Conjunction:
    """What a problem has to have, and what it must not have.

    Attributes:
        present: names of features, all of which it has.
        absent: names of features, none of which it has.
    """

    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def holds(self, features: Collection[str]) -> bool:
        """Whether a problem with these features is meant."""
        return set(self.present) <= set(features) and not set(self.absent) & set(features)

    def __str__(self) -> str:
        """In words, as they follow "where there is"; a conjunction of nothing is everywhere."""
        named = [*self.present, *map(_without, self.absent)]
        return " and ".join(named) or "anything"


@dataclass(frozen=True)
class Attributed:
    """One conjunction, and how well it separates.

    Attributes:
        where: the conjunction.
        faulty: how many of the faulty problems it holds on.
        meant: how many problems it holds on; more than ``faulty`` where some of them hold.
        others: how many problems without a fault there are in all.
        sure: whether that is hardly a coincidence.
        also: features that were present on the same problems, and might as well be meant.
        whole: whether it holds on all faulty problems; the rest is of other causes, or of none.
    """

    where: Conjunction
    faulty: int
    meant: int
    others: int
    sure: bool
    also: tuple[str, ...] = ()
    whole: bool = True


def _without(name: str) -> str:
    return "a bias" if name == "no bias" else f"not {name}"
