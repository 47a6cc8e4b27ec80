"""Every question has random states of its own, in which what a subject does to them shows."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.matrix.operators import Operator
from ekfac_ref.model.random_state import take, untouched


def tiny() -> ek.Problem:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).eval()
    x, y = torch.randn(3, 2), torch.randn(3, 1)
    return ek.Problem(model, [(x[:2], y[:2]), (x[2:], y[2:])], ek.Gaussian())


@pytest.mark.parametrize("seed", [np.random.seed, random.seed, torch.manual_seed])
def test_who_seeds_by_a_constant_is_noticed_at_every_question(seed: Callable[[int], None]) -> None:
    """Once in answers that come, once where an exception ends them; the caller's states stay."""

    def seeding(problem: ek.Problem) -> dict[str, Operator]:
        seed(0)
        return ek.ekfac(problem)

    subject, question, before = ct.Subject("seeds", seeding), tiny(), repr(take())
    for _ in range(3):
        found = ct.ask(subject, question, ["leaves alone", "after an exception", "no memory"])
        broken = [name for name, law in found.items() if law is not None]
        assert broken == ["leaves alone", "after an exception"]
        assert repr(take()) == before


def test_an_answer_that_depends_on_them_is_another_each_time() -> None:
    """Though whoever draws puts them back, and has changed nothing."""

    def drawing(problem: ek.Problem) -> dict[str, Operator]:
        with untouched():
            size = 1 + 1e-3 * torch.rand(1).item()
        return {name: E.scaled(size) for name, E in ek.ekfac(problem).items()}

    found = ct.ask(ct.Subject("draws", drawing), tiny(), ["leaves alone", "no memory"])
    assert [name for name, law in found.items() if law is not None] == ["no memory"]
