"""loss_scale and likelihood_of against the torch loss modules themselves, by their derivatives.

A loss over the whole data is L = r sum_n c l_n, r = 1/N for 'mean' and 1 for 'sum'. The exact
Fisher of a last layer, times the scale r N c, is the Hessian of L. With h_n the gradient of sample
n's own part of L, which is r c grad l_n, the empirical one times r N c^2 is (1/r) sum_n h_n h_n^T.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

import ekfac_ref as ek

pytestmark = pytest.mark.shapes

Loss = Callable[..., nn.Module]

N = 7
UNEVEN = (1, 4, 2)


@dataclass(frozen=True, eq=False)
class Setting:
    """A net whose last layer is module "2", seven samples, and the loss under trial."""

    loss: Loss
    net: nn.Module
    inputs: Tensor
    targets: Tensor

    def problem(self, fisher: object, **options: str) -> ek.Problem:
        batches = list(
            zip(self.inputs.split(UNEVEN), self.targets.split(UNEVEN), strict=True),
        )
        likelihood = ek.likelihood_of(self.loss(**options))
        return ek.Problem(self.net, batches, likelihood, fisher=fisher, layers=("2",))


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def classes(*shape: int, ignored: int = 0, ignore_index: int = -100) -> Tensor:
    """Labels 0, 1, 2, the first of which are ignored."""
    labels = torch.arange(torch.Size(shape).numel()).remainder(3)
    labels[:ignored] = ignore_index
    return labels.reshape(shape)


def built(net: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return net().double()


def mlp(K: int, *more: nn.Module) -> nn.Module:
    return built(lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, K), *more))


def conv_net() -> nn.Module:
    """Three classes on axis 1, at four positions."""
    return built(lambda: nn.Sequential(nn.Conv1d(2, 3, 1), nn.Tanh(), nn.Conv1d(3, 3, 1)))


def ignoring_zero(**options: str) -> nn.Module:
    return nn.CrossEntropyLoss(ignore_index=0, **options)


def full_poisson(**options: str) -> nn.Module:
    return nn.PoissonNLLLoss(full=True, **options)


SETTINGS = {
    "mse": Setting(nn.MSELoss, mlp(3), draw(N, 2), draw(N, 3)),
    "mse_one_output": Setting(nn.MSELoss, mlp(1), draw(N, 2), draw(N, 1)),
    "mse_no_output_axis": Setting(nn.MSELoss, mlp(1, nn.Flatten(0)), draw(N, 2), draw(N)),
    "mse_positions": Setting(nn.MSELoss, conv_net(), draw(N, 2, 4), draw(N, 3, 4)),
    "cross_entropy": Setting(nn.CrossEntropyLoss, mlp(3), draw(N, 2), classes(N)),
    "cross_entropy_ignored": Setting(
        nn.CrossEntropyLoss, mlp(3), draw(N, 2), classes(N, ignored=2)
    ),
    "cross_entropy_ignoring_a_class": Setting(ignoring_zero, mlp(3), draw(N, 2), classes(N)),
    "cross_entropy_positions": Setting(
        nn.CrossEntropyLoss, conv_net(), draw(N, 2, 4), classes(N, 4, ignored=6)
    ),
    "bce": Setting(nn.BCEWithLogitsLoss, mlp(3), draw(N, 2), draw(N, 3).gt(0).double()),
    "bce_soft": Setting(nn.BCEWithLogitsLoss, mlp(2), draw(N, 2), draw(N, 2).sigmoid()),
    "poisson": Setting(nn.PoissonNLLLoss, mlp(3), draw(N, 2), classes(N, 3).double()),
    "poisson_full": Setting(full_poisson, mlp(2), draw(N, 2), classes(N, 2).double()),
}
EVERY_SETTING = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
BOTH_REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum"])


def as_parameters(matrix: Tensor, layer: nn.Module) -> dict[str, Tensor]:
    """[W | b] of layer "2" as its two Parameters, differentiably."""
    return {"2.weight": matrix[:, :-1].reshape(layer.weight.shape), "2.bias": matrix[:, -1]}


def own_matrix(layer: nn.Module) -> Tensor:
    return torch.cat([layer.weight.flatten(1), layer.bias[:, None]], 1).detach()


@EVERY_SETTING
@BOTH_REDUCTIONS
def test_scaled_exact_fisher_is_the_hessian_of_the_loss(setting: Setting, reduction: str) -> None:
    loss = setting.loss(reduction=reduction)
    problem = setting.problem(ek.Exact(), reduction=reduction)
    W = own_matrix(setting.net[2])

    def of_the_whole_data(W: Tensor) -> Tensor:
        parameters = as_parameters(W, setting.net[2])
        return loss(functional_call(setting.net, parameters, setting.inputs), setting.targets)

    expected = hessian(of_the_whole_data, W).reshape(W.numel(), W.numel())
    scaled = ek.exact_fisher(problem)["2"].scaled(ek.loss_scale(loss, problem))
    torch.testing.assert_close(scaled.dense(), expected)


@EVERY_SETTING
@BOTH_REDUCTIONS
def test_scaled_empirical_fisher_is_made_of_the_losses_own_gradients(
    setting: Setting, reduction: str
) -> None:
    loss = setting.loss(reduction=reduction)
    problem = setting.problem(ek.Empirical(), reduction=reduction)
    W = own_matrix(setting.net[2]).requires_grad_()
    f = functional_call(setting.net, as_parameters(W, setting.net[2]), setting.inputs)
    dL_df = torch.autograd.grad(loss(f, setting.targets), f, retain_graph=True)[0]
    h = torch.stack(
        [torch.autograd.grad(f[n], W, dL_df[n], retain_graph=True)[0].flatten() for n in range(N)]
    )
    one_over_r = N if reduction == "mean" else 1
    scaled = ek.exact_fisher(problem)["2"].scaled(ek.loss_scale(loss, problem))
    torch.testing.assert_close(scaled.dense(), one_over_r * h.T @ h)


@EVERY_SETTING
@BOTH_REDUCTIONS
def test_a_sampled_fisher_has_the_scale_of_the_exact_one(setting: Setting, reduction: str) -> None:
    loss = setting.loss(reduction=reduction)
    exact = setting.problem(ek.Exact(), reduction=reduction)
    sampled = replace(exact, fisher=ek.Sampled(draws=2))
    assert ek.loss_scale(loss, sampled) == ek.loss_scale(loss, exact)
    assert ek.ekfac(sampled)["2"].shape == ek.ekfac(exact)["2"].shape


@EVERY_SETTING
def test_the_likelihood_has_the_gradient_of_the_loss(setting: Setting) -> None:
    """Of reduction 'sum', hence up to c, which is 2 for the squared error."""
    loss = setting.loss(reduction="sum")
    f = setting.net(setting.inputs).detach().requires_grad_()
    expected = torch.autograd.grad(loss(f, setting.targets), f)[0]
    c = 2 if isinstance(loss, nn.MSELoss) else 1
    score = ek.likelihood_of(loss).score(f.detach(), setting.targets)
    torch.testing.assert_close(c * score, expected)


def test_the_mean_counts_labels_over_the_whole_problem() -> None:
    """Seven labels in batches of 1, 4 and 2, two ignored: one scale, whatever the batches."""
    setting = SETTINGS["cross_entropy_ignored"]
    problem = setting.problem(ek.Exact())
    assert ek.loss_scale(nn.CrossEntropyLoss(), problem) == pytest.approx(7 / 5)
    assert ek.loss_scale(nn.CrossEntropyLoss(reduction="sum"), problem) == 7


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("K", [160, 300])
def test_labels_may_be_integers_of_any_width(dtype: torch.dtype, K: int) -> None:
    """Label 156 is -100 in eight bits, and 300 classes are 44."""
    f, y = draw(2, K), torch.tensor([156, 3])
    likelihood = ek.Categorical()
    likelihood.check(f, y.to(dtype))
    assert torch.equal(likelihood.score(f, y.to(dtype)), likelihood.score(f, y))
    assert torch.equal(likelihood.square_root(f, y.to(dtype)), likelihood.square_root(f, y))
