"""What is wrong everywhere is told without a place."""

from collections.abc import Sequence
from dataclasses import dataclass

from ekfac_ref.conformance.findings.causes import Cause
from ekfac_ref.conformance.findings.conjunction import Attributed, Conjunction
from ekfac_ref.conformance.findings.names import SEVERAL, names


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
