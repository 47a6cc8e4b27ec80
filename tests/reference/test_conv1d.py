"""GPT-2's Conv1D, a Linear whose weight is transposed and applied by addmm, without its package."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from tests.support.one_by_one import check


class Conv1D(nn.Module):
    """As in transformers: d_in and d_out change places, and positions are folded."""

    def __init__(self, d_out: int, d_in: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_in, d_out))
        self.bias = nn.Parameter(torch.randn(d_out))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return y.view(*x.shape[:-1], -1)


Conv1D.__module__, Conv1D.__qualname__ = "transformers.pytorch_utils", "Conv1D"


class Scaled(Conv1D):
    def __init__(self, d_out: int, d_in: int, **options: Any) -> None:
        super().__init__(d_out, d_in)
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight, **self.options)


class ByName(Conv1D):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(input=self.bias, mat1=x, mat2=self.weight)


class Swapped(Conv1D):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias[:, None], self.weight.T, x.T).T


def as_linear(layer: Conv1D) -> nn.Linear:
    linear = nn.Linear(*layer.weight.shape).double()
    linear.weight.data, linear.bias.data = layer.weight.data.T.clone(), layer.bias.data.clone()
    return linear


@pytest.mark.parametrize("positions", [(), (4,), (2, 3)])
def test_it_is_a_linear_layer(positions: tuple[int, ...]) -> None:
    model = nn.Sequential(Conv1D(5, 3), nn.Tanh(), Conv1D(2, 5)).double()
    linear = nn.Sequential(as_linear(model[0]), nn.Tanh(), as_linear(model[2]))
    x, y = torch.randn(4, *positions, 3).double(), torch.randn(4, *positions, 2).double()
    batches = [(x[:3], y[:3]), (x[3:], y[3:])]
    check(
        ek.Problem(model, batches, ek.Gaussian()),
        ek.Problem(linear, batches, ek.Gaussian()),
    )


def test_gradients_come_back_in_its_own_orientation() -> None:
    (layer,) = ek.find_layers(Conv1D(2, 3))
    assert layer.shape == (2, 4)
    G = torch.randn(2, 4)
    there = layer.from_matrix(G)
    assert there["weight"].shape == (3, 2)
    assert there["weight"].is_contiguous()
    torch.testing.assert_close(layer.to_matrix(there), G)
    torch.testing.assert_close(there["weight"], G[:, :3].T)


def test_tied_to_a_linear_layer_it_is_refused() -> None:
    model = nn.Sequential(Conv1D(3, 3), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    with pytest.raises(ek.ProblemError, match="another orientation"):
        ek.kfac(ek.Problem(model, [(torch.randn(2, 3), torch.randn(2, 3))], ek.Gaussian()))


@pytest.mark.parametrize(
    "layer",
    [Scaled(2, 3, beta=0.5), Scaled(2, 3, alpha=2.0), ByName(2, 3)],
    ids=["beta", "alpha", "by name"],
)
def test_other_forms_of_addmm_are_refused(layer: nn.Module) -> None:
    problem = ek.Problem(layer, [(torch.randn(4, 3), torch.randn(4, 2))], ek.Gaussian())
    with pytest.raises(ek.ProblemError, match=r"call torch.addmm\(bias, input, weight\)"):
        ek.ekfac(problem)


def test_a_weight_on_the_left_is_refused() -> None:
    problem = ek.Problem(Swapped(2, 3), [(torch.randn(4, 3), torch.randn(4, 2))], ek.Gaussian())
    with pytest.raises(ek.ProblemError, match="transposed, or in part"):
        ek.ekfac(problem)


def test_another_module_of_that_name_is_none() -> None:
    other = type("Conv1D", (nn.Module,), {})()
    other.weight = nn.Parameter(torch.zeros(3, 2))
    with pytest.raises(ek.ProblemError, match="no supported layer"):
        ek.find_layers(other)
