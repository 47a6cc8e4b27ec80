"""Features that come together, or are absent: "groups and reduce, without a mask"."""

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


def _without(name: str) -> str:
    return "a bias" if name == "no bias" else f"not {name}"
