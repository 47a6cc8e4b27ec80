"""What became of one problem: it was answered, and laws held or not, or it was refused, or lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Off:
    """How far a law was from holding.

    Attributes:
        ratio: to rounding; inf where the law is a matter of yes or no.
        size: relative to the size of the terms that were summed; inf likewise.
    """

    ratio: float
    size: float


@dataclass(frozen=True)
class Outcome:
    """One problem, and what came of it; neither answered nor refused where it was no answer.

    Attributes:
        features: what is special about the problem, by name.
        is_answered: whether laws could be asked.
        held: laws that were asked and hold.
        broken: laws that were asked and do not, and how far from it.
        doubted: laws of which it is open.
        refusal: what was raised instead of an answer, or "".
        mute: features that only layers without gradient have; no right answer shows them right.
    """

    features: tuple[str, ...]
    is_answered: bool = False
    held: frozenset[str] = frozenset()
    broken: Mapping[str, Off] = field(default_factory=dict)
    doubted: frozenset[str] = frozenset()
    refusal: str = ""
    mute: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[str, ...]:
        """The features that a right answer shows to be right."""
        return tuple(name for name in self.features if name not in self.mute)

    def has_any(self, features: Mapping[str, str] | tuple[str, ...]) -> bool:
        """Whether the problem has one of these features."""
        return any(name in features for name in self.features)
