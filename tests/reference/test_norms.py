"""Norms whose gradients torch has wrong: of one sample, and of several with places first."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, overrides
from torch.overrides import resolve_name
from torch.utils.checkpoint import checkpoint

import ekfac_ref as ek
from ekfac_ref.model.forward import _on_one_axis


class ConvolutionalStem(nn.Module):
    """Of a transformer: patches, a norm, and tokens, a transposed view, with a residual."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.mlp, self.head = conv, norm, nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        y: Tensor = self.head((tokens + self.mlp(tokens).tanh()).tanh().mean(1))
        return y


class OnTokens(ConvolutionalStem):
    """Local mixing: the input of the norm, and not its gradient, is a transposed view."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.tanh(self.conv(x)).flatten(2).transpose(1, 2).contiguous()
        image = tokens.transpose(1, 2).reshape(len(x), 4, *[3] * (x.dim() - 2))
        y: Tensor = self.head(self.norm(image).square().flatten(2).mean(2))
        return y


class Checkpointed(ConvolutionalStem):
    """Its norm is computed once more in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        image = checkpoint(lambda x: self.norm(self.conv(x)), x, use_reentrant=False)
        tokens = image.flatten(2).transpose(1, 2)
        y: Tensor = self.head((tokens + self.mlp(tokens).tanh()).tanh().mean(1))
        return y


class PlacesFirst(ConvolutionalStem):
    """Of a transformer whose tokens have places, samples, channels."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.conv(x)).flatten(2).permute(2, 0, 1)
        y: Tensor = self.head((tokens + self.mlp(tokens).tanh()).tanh().mean(0))
        return y


class ByFormula(nn.Module):
    """An instance norm without torch's."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        centred = x - x.mean(2, keepdim=True)
        y: Tensor = centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()
        return y


CONVS = {4: nn.Conv2d(2, 4, 2, stride=2), 5: nn.Conv3d(2, 4, 2, stride=2)}
NORMS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "batch norm of images": (4, lambda: nn.BatchNorm2d(4)),
    "batch norm of volumes": (5, lambda: nn.BatchNorm3d(4)),
    "batch norm without weights": (4, lambda: nn.BatchNorm2d(4, affine=False)),
    "instance norm": (4, lambda: nn.InstanceNorm2d(4, affine=True)),
    "instance norm without weights": (4, lambda: nn.InstanceNorm2d(4)),
    "instance norm of volumes": (5, lambda: nn.InstanceNorm3d(4)),
}


def question(name: str, net: type[ConvolutionalStem], sizes: tuple[int, ...]) -> ek.Problem:
    dim, norm = NORMS[name]
    model = net(CONVS[dim], norm()).double().eval()
    for buffer in model.norm.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 2.0)
    x, y = torch.randn(sum(sizes), 2, *[6] * (dim - 2)).double(), torch.arange(sum(sizes)) % 3
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    return ek.Problem(
        model, batches, ek.Categorical(), fisher=ek.Empirical(), layers=("conv", "head")
    )


def gradients(problem: ek.Problem) -> dict[str, Tensor]:
    """{layer: G [N, d_out, d_in]}, every sample in a batch of two that are that sample."""
    found: dict[str, list[Tensor]] = {"conv": [], "head": []}
    for inputs, y in problem.batches:
        for n in range(len(y)):
            twice = [n, n]
            loss = F.cross_entropy(problem.model(inputs[twice]), y[twice])
            for layer, of_layer in found.items():
                module = problem.model.get_submodule(layer)
                W, b = torch.autograd.grad(loss, [*module.parameters()], retain_graph=True)
                of_layer.append(torch.cat([W.flatten(1), b[:, None]], 1))
    return {layer: torch.stack(of_layer) for layer, of_layer in found.items()}


@pytest.mark.filterwarnings("ignore:model. torch.vmap cannot run all samples at once")
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("net", [ConvolutionalStem, OnTokens, Checkpointed])
@pytest.mark.parametrize("sizes", [(1,), (2,), (2, 1)], ids=str)
def test_one_sample_has_the_gradients_of_the_two_that_are_it(
    name: str, net: type[ConvolutionalStem], sizes: tuple[int, ...]
) -> None:
    problem = question(name, net, sizes)
    found, E = [*ek.per_sample_gradients(problem)], ek.ekfac(problem)
    for layer, G in gradients(problem).items():
        torch.testing.assert_close(torch.cat([chunk[layer] for chunk in found])[:, 0], G)
        Lambda = (E[layer].Q_B.T @ G @ E[layer].Q_A).square().mean(0)
        torch.testing.assert_close(E[layer].eigenvalues, Lambda)


@pytest.mark.parametrize("name", ["instance norm without weights", "instance norm of volumes"])
@pytest.mark.parametrize("sizes", [(1,), (3,), (2, 1)], ids=str)
def test_samples_are_not_taken_for_channels(name: str, sizes: tuple[int, ...]) -> None:
    problem = question(name, PlacesFirst, sizes)
    found, E = [*ek.per_sample_gradients(problem)], ek.ekfac(problem)
    model = copy.deepcopy(problem.model)
    model.norm = ByFormula()
    for layer, G in gradients(replace(problem, model=model)).items():
        torch.testing.assert_close(torch.cat([chunk[layer] for chunk in found])[:, 0], G)
        Lambda = (E[layer].Q_B.T @ G @ E[layer].Q_A).square().mean(0)
        torch.testing.assert_close(E[layer].eigenvalues, Lambda)


class Listing(ConvolutionalStem):
    """Its forward is the first to ask torch what its functions are called."""

    def forward(self, x: Tensor) -> Tensor:
        overrides.get_overridable_functions()
        return super().forward(x)


def test_torch_has_its_own_norms_again() -> None:
    """And lists them under their names, be it that the list is made in between."""
    _on_one_axis.cache_clear()
    overrides._get_overridable_functions.cache_clear()
    of_torch = torch.batch_norm, torch.instance_norm
    ek.ekfac(question("batch norm of images", Listing, (1,)))
    assert (torch.batch_norm, torch.instance_norm) == of_torch
    assert [resolve_name(norm) for norm in of_torch] == ["torch.batch_norm", "torch.instance_norm"]
