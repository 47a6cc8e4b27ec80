"""What an operator of a whole layer does to all of its blocks at once: groups, weight and bias."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from tests.support.other_definitions import grouped

ASKED = ["linear", "solve 1e-06", "solve 1"]


def _right(operator: Any, V: Tensor, damping: float) -> Tensor:
    x: Tensor = operator.solve(V, damping=damping)
    return x


def _leaking(operator: Any, V: Tensor, damping: float) -> Tensor:
    """The second group gets the first one's answer on top of its own."""
    one, other = operator.solve(V, damping=damping).chunk(2)
    return torch.cat([one, one + other])


def _by_the_first(operator: Any, V: Tensor, damping: float) -> Tensor:
    """Every group solved by the block of the first."""
    return torch.cat([operator.blocks[0].solve(v, damping=damping) for v in V.chunk(2)])


def _one_at_a_time(operator: Any, V: Tensor) -> Tensor:
    """Right as long as only one group has anything."""
    parts = sum(bool(v.any()) for v in V.chunk(2))
    product: Tensor = operator.matvec(V)
    return product / max(parts, 1)


def _broken(solve: Any, shows: bool, matvec: Any = None) -> list[str]:
    def wrapped(operator: Any) -> Any:
        if not hasattr(operator, "blocks"):
            return operator
        found = SimpleNamespace(
            matvec=lambda V: (matvec or (lambda one, V: one.matvec(V)))(operator, V),
            solve=lambda V, *, damping: solve(operator, V, damping),
        )
        if shows:
            found.blocks = operator.blocks
        return found

    def answer(problem: ek.Problem) -> dict[str, Any]:
        return {name: wrapped(one) for name, one in ek.ekfac(problem).items()}

    found = ct.ask(ct.Subject("whole", answer), grouped(), ASKED)
    return [law for law, error in found.items() if error is not None]


@pytest.mark.parametrize("shows", [False, True])
def test_a_right_one_is_right_as_a_whole(shows: bool) -> None:
    assert _broken(_right, shows) == []


@pytest.mark.parametrize("shows", [False, True])
@pytest.mark.parametrize("wrong", [_leaking, _by_the_first])
def test_a_solution_is_looked_at_in_all_blocks(wrong: Any, shows: bool) -> None:
    assert set(_broken(wrong, shows)) == {"solve 1e-06", "solve 1"}


def test_so_is_a_product() -> None:
    assert _broken(_right, True, _one_at_a_time) == ["linear"]
