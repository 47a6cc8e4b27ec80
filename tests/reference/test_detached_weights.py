"""What a forward reads of its weights without gradients is no use of them: a constant."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek


class Reads(nn.Module):
    """Two layers; what ``constant`` makes of the first one's weight divides the outputs."""

    def __init__(self, constant: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 5), nn.Linear(5, 3)
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(torch.tanh(self.one(x)))
        return y / self.constant(self.one.weight)


def detached(W: Tensor) -> Tensor:
    return W.detach().norm()


def of_data(W: Tensor) -> Tensor:
    return W.data.abs().max()


def without_gradients(W: Tensor) -> Tensor:
    with torch.no_grad():
        return W.square().sum()


def watched(W: Tensor) -> Tensor:
    return 1.0 + torch.isfinite(W).all()


def of_another_branch(W: Tensor) -> Tensor:
    """A product with the weight held constant, as of a target network."""
    return 2.0 + F.linear(torch.ones(4, dtype=W.dtype), W.detach()).tanh().sum()


@pytest.mark.parametrize(
    "constant", [detached, of_data, without_gradients, watched, of_another_branch]
)
def test_a_constant_made_of_a_weight(constant: Callable[[Tensor], Tensor]) -> None:
    """The same operators as with the number itself, and G by a plain loop."""
    model = Reads(constant).double()
    number = constant(model.one.weight).detach()
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.randint(3, (6,))
    likelihood = ek.Categorical()
    problem = ek.Problem(model, [(x, y)], likelihood, fisher=ek.Empirical())
    of_number = Reads(lambda W: number).double()
    of_number.load_state_dict(model.state_dict())
    expected = ek.Problem(of_number, [(x, y)], likelihood, fisher=ek.Empirical())
    for compute in (ek.kfac, ek.ekfac):
        found, wanted = compute(problem), compute(expected)
        for name in ("one", "two"):
            torch.testing.assert_close(found[name].dense(), wanted[name].dense())
    squares = 0.0
    for n in range(6):
        loss = F.cross_entropy(model(x[n : n + 1]), y[n : n + 1])
        g = torch.autograd.grad(loss, [*model.one.parameters()])
        squares += sum(float(part.square().sum()) for part in g) / 6
    assert float(ek.ekfac(problem)["one"].trace()) == pytest.approx(squares, rel=1e-10)


def test_a_product_that_is_differentiated_is_refused() -> None:
    model = Reads(lambda W: W.norm()).double()
    problem = ek.Problem(
        model, [(torch.randn(6, 4).double(), torch.zeros(6).long())], ek.Categorical()
    )
    with pytest.raises(ek.ProblemError, match=r"'one': its weight .* outside the layer's own op"):
        ek.kfac(problem)


def test_writing_without_gradients_is_refused() -> None:
    model = Reads(lambda W: torch.no_grad()(W.mul_)(0.5).detach().norm()).double()
    problem = ek.Problem(
        model, [(torch.randn(6, 4).double(), torch.zeros(6).long())], ek.Categorical()
    )
    with pytest.raises(ek.ProblemError, match=r"'one': the forward writes into its weight"):
        ek.kfac(problem)
