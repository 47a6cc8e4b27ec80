"""Where a mistake is, beside its name, and on which problems that is looked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from ekfac_ref.conformance.findings.attribution.conjunction import Attributed, Conjunction
from ekfac_ref.conformance.findings.causes import Cause
from ekfac_ref.conformance.findings.names import SEVERAL, names
from ekfac_ref.conformance.findings.outcome import Off, Outcome


@dataclass
class Said:
    sentence: str
    named: str = ""


def cause(number: int, *features: str) -> Cause:
    attributed = Attributed(Conjunction(features), 1, 1, 1, True)
    return Cause(attributed, ("trace",), (number,), 2)


def test_everywhere_has_no_where() -> None:
    said = {1: Said("Halved.", "half"), 2: Said("Doubled.", "double"), 3: Said("Halved.", "half")}

    def name(numbers: Sequence[int]) -> Said:
        return said[numbers[0]]

    assert names([cause(1), cause(2, "groups")], name) == "Halved. Where groups: Doubled."
    assert names([cause(3, "bias"), cause(1)], name) == "Halved."
    few = [cause(2, f"feature {k}") for k in range(SEVERAL + 1)]
    assert f"feature {SEVERAL}" not in names(few, name)


RIGHT = Outcome(("mask", "float64"), True)
OUTCOMES = [
    *[Outcome(("mask", "float64"), True, broken={"trace": Off(1e9, 1.0)})] * 2,
    Outcome(("mask", "float32"), True),
    *[RIGHT] * 3,
    Outcome(("float64",), True),
    Outcome(("mask", "float64"), refusal="no"),
    Outcome(("mask", "float64"), True, doubted=frozenset({"trace"})),
]


def rare(attributed: Attributed | None = None) -> Cause:
    return Cause(attributed, ("trace",), (0, 1), len(OUTCOMES))


def test_a_rare_mistake_is_looked_for_where_it_shows_with_right_problems_beside() -> None:
    asked: list[list[int]] = []

    def name(numbers: Sequence[int]) -> Said:
        asked.append([*numbers])
        return Said("It looks halved.", "half")

    assert names([rare()], name, OUTCOMES) == "It looks halved."
    # The right ones are like them, and of one dtype with them, in which a diagnosis compares.
    assert asked == [[0, 1, 3, 4, 5, 6]]


def test_what_is_right_on_other_problems_is_not_told_of_what_is_broken() -> None:
    own, other = "Right here, as far as can be compared.", "Its EKFAC agrees with the definition."
    assert names([rare()], lambda numbers: Said(own if numbers else other), OUTCOMES) == own
    common = Cause(None, ("trace",), (0, 1), 4)
    assert names([common], lambda numbers: Said(own if numbers else other), OUTCOMES) == own
    named = Said("Halved.", "half")
    assert names([rare()], lambda numbers: Said(own) if numbers else named, OUTCOMES) == "Halved."


def test_what_has_no_place_is_told_on_other_problems() -> None:
    found = names(
        [cause(2, "groups"), rare()], lambda numbers: Said(f"{len(numbers)}.", "x" * len(numbers))
    )
    assert found == "Where groups: 1. On other problems: 2."
