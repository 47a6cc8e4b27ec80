"""One way in which a designed problem differs from the plain case, and who can be given it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.designed.design import Design
from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.model.weights.layer_kinds import OP_OF

EVERY = tuple(OP_OF)


@dataclass(frozen=True)
class Variation:
    """Design of the plain case otherwise, so that a problem has these features and few others.

    Attributes:
        features: names of those that it is for, in FEATURES.
        parts: what is otherwise.
        kinds: of layers that it can be drawn with.
        needs: what has to be among the subject's abilities.
    """

    features: tuple[str, ...]
    parts: Mapping[str, Any]
    kinds: tuple[type[nn.Module], ...]
    needs: Callable[[Abilities], bool]

    def of(self, plain: Design) -> Design:
        """The plain case with that otherwise."""
        return replace(plain, **self.parts)

    def goes_with(self, other: "Variation") -> bool:
        """Whether the two are about different parts."""
        return not set(self.parts) & set(other.parts)


def _anything(abilities: Abilities) -> bool:
    return True


def with_positions(abilities: Abilities) -> bool:
    """A weight may be used at several positions of a sample."""
    return abilities.positions


def varied(
    name: str,
    needs: Callable[[Abilities], bool] = _anything,
    kinds: tuple[type[nn.Module], ...] = (),
    **parts: Any,
) -> Variation:
    """A variation for one feature, with all kinds that can have it if none are given."""
    return Variation((name,), parts, kinds or FEATURES[name].kinds or EVERY, needs)
