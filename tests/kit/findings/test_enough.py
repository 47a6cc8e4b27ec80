"""How much has to be answered for a verdict."""

import pytest

from ekfac_ref.conformance.findings.enough import ANSWERED, DECLARED, too_few
from ekfac_ref.conformance.findings.outcome import Outcome
from ekfac_ref.model.weights.layer_kinds import OP_OF


def right(*features: str) -> Outcome:
    return Outcome(features, is_answered=True, held=frozenset({"trace"}))


def refused(*features: str) -> Outcome:
    return Outcome(features, refusal="it raised ValueError: no")


CASES = [
    ([right("Linear")] * ANSWERED, (), ""),
    ([right("Linear")] * ANSWERED + [refused("Linear", "groups")] * 40, (), ""),
    ([right("Linear")] * 19 + [refused("Linear")] * 40, (), "19 of 59"),
    # However much is declined, twenty are twenty, where so many are drawn.
    ([right("Linear")] * 19 + [refused("Linear", "mask")] * 40, ("mask",), "19 of 59"),
    # Where fewer are drawn, all that are not declined.
    ([right("Linear")] * 12, (), ""),
    ([right("Linear")] * 11 + [refused("Linear", "mask")], (), "11 of 12"),
    ([right("Linear")] * 11 + [refused("Linear", "mask")], ("mask",), ""),
    ([right("Linear")] * 10 + [refused("mask"), refused("reduce")], ("mask",), "10 of 12"),
    ([refused("Linear", "mask")] * 3, ("mask",), "0 of 3 problems were answered, and it takes 1"),
    # A bad answer is no excuse.
    ([right("Linear")] * 11 + [Outcome(("Linear", "mask"))], ("mask",), "11 of 12"),
    # Every kind of layer.
    ([right("Linear")] * 30 + [refused("Conv2d")] * 5, (), "no plain problem with Conv2d was"),
    ([right("Linear")] * 30 + [refused("Conv2d")] * 5, ("Conv2d",), ""),
    ([right("Linear")] * 30 + [refused("Conv2d", "groups"), right("Conv2d")], (), ""),
    # Not with something special alone.
    (
        [right("Linear")] * 30 + [right("Conv2d", "groups"), refused("Conv2d")],
        (),
        "no plain problem with Conv2d was answered",
    ),
]


@pytest.mark.parametrize(("outcomes", "declined", "says"), CASES)
def test_too_few(outcomes: list[Outcome], declined: tuple[str, ...], says: str) -> None:
    found = too_few(outcomes, declined)
    assert found.startswith(says)
    assert bool(found) == bool(says)


def test_kinds_are_those_of_layers() -> None:
    assert set(DECLARED) == {kind.__name__ for kind in OP_OF}
