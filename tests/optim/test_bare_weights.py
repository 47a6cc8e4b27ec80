"""Optimizers of matrices that no module has, which ``layers_of`` finds by data beforehand."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC, EKFACPreconditioner


class Bare(nn.Module):
    """A Linear, a matrix of no module with a bias, and two of a stack."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.W, self.b = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))
        self.E = nn.Parameter(torch.randn(2, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        h = (self.first(x).tanh() @ self.W + self.b).tanh()
        return h @ self.E[0] + h**2 @ self.E[1]


class OfModules(nn.Module):
    """The same."""

    def __init__(self, bare: Bare) -> None:
        super().__init__()
        self.first = copy.deepcopy(bare.first)
        self.W = nn.Linear(4, 3)
        self.E = nn.ModuleList([nn.Linear(3, 2, bias=False) for _ in range(2)])
        with torch.no_grad():
            self.W.weight.copy_(bare.W.T)
            self.W.bias.copy_(bare.b)
            for linear, matrix in zip(self.E, bare.E, strict=True):
                linear.weight.copy_(matrix.T)

    def forward(self, x: Tensor) -> Tensor:
        h = self.W(self.first(x).tanh()).tanh()
        return self.E[0](h) + self.E[1](h**2)


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(8, 3).double(), torch.randn(8, 2).double()


@pytest.mark.parametrize("kind", [EKFAC, KFAC])
def test_they_move_as_those_of_modules_do(kind: Any) -> None:
    bare = Bare().double()
    modules = OfModules(bare).double()
    layers = ek.layers_of(ek.Problem(bare, [batch()], ek.Gaussian()))
    steps = [kind(bare, ek.Gaussian(), layers=layers), kind(modules, ek.Gaussian())]
    for _ in range(3):
        x, y = batch()
        for model, optimizer in zip((bare, modules), steps, strict=True):
            optimizer.zero_grad()
            (0.5 * (model(x) - y).square().sum(1).mean()).backward()
            optimizer.update(x, y)
            optimizer.step()
    torch.testing.assert_close(bare.first.weight, modules.first.weight)
    torch.testing.assert_close(bare.W, modules.W.weight.T)
    torch.testing.assert_close(bare.b, modules.W.bias)
    for matrix, linear in zip(bare.E, modules.E, strict=True):
        torch.testing.assert_close(matrix, linear.weight.T)


def test_names_alone_are_not_enough() -> None:
    """What the message says runs: the other layers, or data."""
    model, data = Bare().double(), batch()
    with pytest.raises(ek.ProblemError, match=r"'W' \(of a Bare\).*EKFAC\(layers=\('first',\)\)"):
        EKFAC(model, ek.Gaussian())
    with pytest.raises(ek.ProblemError, match=r"'W' is a parameter that no module.*layers_of"):
        EKFAC(model, ek.Gaussian(), layers=("first", "W"))
    found = ek.layers_of(ek.Problem(model, [data], ek.Gaussian()))
    preconditioner = EKFACPreconditioner(model, ek.Gaussian(), layers=(*found[1:2], "first"))
    preconditioner.update(*data)
    assert set(preconditioner.operators) == {"first", "W"}


def test_a_state_goes_on_in_a_copy() -> None:
    model = Bare().double()
    layers = ek.layers_of(ek.Problem(model, [batch()], ek.Gaussian()))
    one = EKFACPreconditioner(model, ek.Gaussian(), layers=layers)
    one.update(*batch())
    other = EKFACPreconditioner(copy.deepcopy(model), ek.Gaussian(), layers=layers)
    other.load_state_dict(one.state_dict())
    data = batch()
    for preconditioner in (one, other):
        preconditioner.update(*data)
    for name, E in one.operators.items():
        torch.testing.assert_close(E.dense(), other.operators[name].dense())


def test_layers_of_modules_are_those_of_their_names() -> None:
    model = nn.Sequential(nn.Conv1d(4, 4, 1, groups=2), nn.Flatten(), nn.Linear(8, 2)).double()
    data = torch.randn(3, 4, 2).double(), torch.randn(3, 2).double()
    layers = ek.layers_of(ek.Problem(model, [data], ek.Gaussian()))
    found, expected = (
        EKFACPreconditioner(model, ek.Gaussian(), layers=some) for some in (layers, ("0", "2"))
    )
    for preconditioner in (found, expected):
        preconditioner.update(*data)
    for name, E in expected.operators.items():
        assert torch.equal(found.operators[name].dense(), E.dense())


class OfTwo(nn.Module):
    """One of two matrices of no module, by the sign of the first number."""

    def __init__(self) -> None:
        super().__init__()
        self.W, self.V = (nn.Parameter(torch.randn(3, 2)) for _ in range(2))
        self.power = 1

    def forward(self, x: Tensor) -> Tensor:
        y, positive = torch.zeros_like(x[:, :2]), x[:, :1] > 0
        if positive.any():
            y = torch.where(positive, x @ self.W, y)
        if not positive.all():
            y = torch.where(positive, y, x @ self.V)
        return y**self.power


def changed(optimizer: EKFAC) -> EKFAC:
    """After the model: it is copied anew."""
    optimizer.preconditioner.model.power = 2
    return optimizer


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("again", [copy.deepcopy, changed])
def test_a_later_batch_may_leave_a_matrix_out(again: Any) -> None:
    """Also where it is the first one after a copy, or after a change of the forward."""
    torch.manual_seed(0)
    model = OfTwo()
    x, y = torch.tensor([[1.0, 2, 3], [-1, 1, 2]]), torch.randn(2, 2)
    problem = ek.Problem(model, [(x, y)], ek.Gaussian())
    optimizer = EKFAC(model, ek.Gaussian(), layers=ek.layers_of(problem))
    optimizer.update(x, y)
    other = again(optimizer)
    other.update(x.abs(), y)
    assert other.preconditioner.updates == 2
