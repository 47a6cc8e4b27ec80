"""No problem is drawn on which a ReLU opens or closes by rounding."""

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.conformance.problems.abilities import DTYPES, Abilities
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.problems.kinks import at_a_kink


def problem(x: list[float], dtype: torch.dtype = torch.float64) -> ek.Problem:
    """One unit, of the difference of two inputs."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(inplace=True)).to(dtype)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.3, -0.3]]))
    data = torch.tensor([x], dtype=dtype)
    return ek.Problem(model, [(data, torch.ones(1, 1, dtype=dtype))], ek.Gaussian())


@pytest.mark.parametrize(
    ("x", "dtype", "kinked"),
    [
        ([0.7, 0.7], torch.float64, True),
        ([0.7, 0.7], torch.float32, True),
        ([0.7, 0.7], torch.bfloat16, False),  # where laws are held against replays
        ([0.0, 0.0], torch.float64, False),  # zero in any arithmetic
        ([0.7, 0.6999], torch.float64, False),
        ([0.7, 0.5], torch.float32, False),
    ],
)
def test_a_sum_that_cancels_is_at_a_kink(x: list[float], dtype: torch.dtype, kinked: bool) -> None:
    given = problem(x, dtype)
    assert at_a_kink(given) is kinked
    assert given.batches[0][0].tolist()[0] == torch.tensor(x, dtype=dtype).tolist()


def test_none_is_drawn() -> None:
    for seed in range(3):
        drawn = draw_problems(Abilities(dtypes=DTYPES), 200, seed)
        assert not any(map(at_a_kink, drawn))
