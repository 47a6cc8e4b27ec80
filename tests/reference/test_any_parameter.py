"""Gradients and the exact Fisher of any parameter, however the model uses it, by a plain loop."""

import ast
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.utils import parametrizations
from torch.utils._pytree import tree_leaves

import ekfac_ref as ek
from ekfac_ref.model import gradients as of_gradients

X, WORDS = torch.randn(4, 3, 4).double(), torch.randint(5, (4, 3))


class With(nn.Module):
    """Some modules, and any function of them and of the inputs."""

    def __init__(self, run: Callable[["With", Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.run = run
        self.gain = nn.Parameter(torch.randn(4))
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def language_model(bias: bool) -> nn.Module:
    model = With(
        lambda m, ids: m.head(m.gain * torch.tanh(m.hidden(m.emb(ids)))),
        emb=nn.Embedding(5, 4, padding_idx=1),
        hidden=nn.Linear(4, 4),
        head=nn.Linear(4, 5, bias=bias),
    )
    model.head.weight = model.emb.weight
    return model


def head_by_hand() -> nn.Module:
    return With(lambda m, ids: F.linear(m.gain * m.emb(ids), m.emb.weight), emb=nn.Embedding(5, 4))


def tied(one: nn.Module, two: nn.Module) -> nn.Module:
    two.weight = one.weight
    return With(lambda m, x: m.gain * m.two(torch.tanh(m.one(x))), one=one, two=two)


def one_bias() -> nn.Module:
    model = tied(nn.Linear(4, 4), nn.Linear(4, 4))
    model.two.weight = nn.Parameter(torch.randn(4, 4))
    model.two.bias = model.one.bias
    return model


def convolutions() -> nn.Module:
    one, two = nn.ConvTranspose1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1)
    model = tied(one, two)
    model.run = lambda m, x: m.gain * m.two(m.one(x.mT)).mT
    return model


def encoder_decoder() -> nn.Module:
    return With(
        lambda m, x: m.gain * (torch.tanh(m.one(x)) @ m.one.weight) + m.one.weight.square().sum(),
        one=nn.Linear(4, 2),
    )


def behind(*modules: nn.Module) -> nn.Module:
    return With(lambda m, x: m.gain * m.net(x), net=nn.Sequential(nn.Linear(4, 4), *modules))


def temperature() -> nn.Module:
    """A Parameter without an axis."""
    model = behind(nn.Linear(4, 2))
    model.temperature = nn.Parameter(torch.tensor(0.5))
    model.run = lambda m, x: m.net(m.gain * x) * m.temperature.exp()
    return model


def batch_norm() -> nn.Module:
    norm = nn.BatchNorm1d(3)
    norm(torch.randn(9, 3, 4))
    return behind(norm)


def frozen_weight() -> nn.Module:
    model = behind(nn.Linear(4, 2))
    model.net[0].weight.requires_grad_(False)
    model.run = lambda m, x: m.net(m.gain * x)
    return model


def in_vmap() -> nn.Module:
    """As torch's recipe for ensembles has it."""
    model = behind(nn.Linear(4, 6, bias=False))
    model.run = lambda m, x: (
        m.gain[:3]
        * torch.vmap(lambda W: m.net[0](x) @ W)(m.net[1].weight.unflatten(0, (2, 3)).mT)
        .tanh()
        .sum(0)
    )
    return model


@torch.jit.script
def _scripted(x: Tensor, W: Tensor) -> Tensor:
    return torch.matmul(x, W)


def in_torchscript() -> nn.Module:
    model = behind(nn.Linear(4, 4, bias=False))
    model.run = lambda m, x: m.gain * _scripted(m.net[0](x), m.net[1].weight)
    return model


class Recurrent(nn.GRU):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class Attention(nn.MultiheadAttention):
    def forward(self, x: Tensor) -> Tensor:
        value = x[..., : self.vdim]
        return super().forward(x, x, value, need_weights=False)[0]


def one_bias_for_queries_and_all() -> nn.Module:
    """Rows of a weight in attention, all of it in a Linear; and the bias in that alone."""
    model = behind(Attention(4, 2, batch_first=True, vdim=3))
    model.net.append(nn.Linear(4, 12)).append(nn.Linear(12, 4))
    model.net[2].bias = model.net[1].in_proj_bias
    return model


def packed_and_linear() -> nn.Module:
    model = behind(Attention(4, 2, batch_first=True))
    model.net.append(nn.Linear(4, 12, bias=False)).append(nn.Linear(12, 4))
    model.net[2].weight = model.net[1].in_proj_weight
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "embedding and head": (lambda: language_model(False), WORDS),
    "embedding and head with a bias": (lambda: language_model(True), WORDS),
    "head by hand": (head_by_hand, WORDS),
    "different biases": (lambda: tied(nn.Linear(4, 4), nn.Linear(4, 4)), X),
    "one bias, two weights": (one_bias, X),
    "a convolution and a transposed one": (convolutions, X),
    "groups and none": (
        lambda: tied(nn.Conv1d(3, 6, 1), nn.Conv1d(6, 6, 1, groups=2)),
        X,
    ),
    "decoder by the encoder's weight": (encoder_decoder, X),
    "LayerNorm": (lambda: behind(nn.LayerNorm(4)), X),
    "RMSNorm": (lambda: behind(nn.RMSNorm(4)), X),
    "GroupNorm": (lambda: behind(nn.GroupNorm(1, 3)), X),
    "BatchNorm": (batch_norm, X),
    "a temperature": (temperature, X),
    "PReLU": (lambda: behind(nn.PReLU(3)), X),
    "weight norm": (lambda: behind(parametrizations.weight_norm(nn.Linear(4, 4))), X),
    "GRU": (lambda: behind(Recurrent(4, 4, batch_first=True)), X),
    "attention": (lambda: behind(Attention(4, 2, batch_first=True)), X),
    "attention, separate weights": (lambda: behind(Attention(4, 2, batch_first=True, vdim=3)), X),
    "attention, more rows": (
        lambda: behind(Attention(4, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)),
        X,
    ),
    "a bias of attention and a Linear": (one_bias_for_queries_and_all, X),
    "a weight of attention and a Linear": (packed_and_linear, X),
    "transformer": (
        lambda: behind(nn.TransformerEncoderLayer(4, 2, 6, 0.0, batch_first=True)),
        X,
    ),
    "EmbeddingBag": (
        lambda: With(lambda m, x: m.gain * m.bag(x), bag=nn.EmbeddingBag(5, 4)),
        WORDS,
    ),
    "a frozen weight": (frozen_weight, X),
    "an ensemble in vmap": (in_vmap, X),
    "TorchScript": (in_torchscript, X),
}


def problem(name: str) -> ek.Problem:
    build, x = MODELS[name]
    model = build().double().eval()
    y = torch.randn_like(model(x))
    return ek.Problem(model, [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian(), fisher=ek.Sampled(2))


def by_loop(question: ek.Problem) -> list[dict[str, Tensor]]:
    """{parameter: the gradient of <f_n, s_nc>} for every n and c, one after the other."""
    parameters = {n: p for n, p in question.model.named_parameters() if p.requires_grad}
    found, first = [], 0
    for x, y in question.batches:
        for n in range(len(x)):
            f = question.model(x[n : n + 1])
            S = question.fisher.columns(question.likelihood, f.detach(), y[n : n + 1], first + n)
            for s in S[0]:
                g = torch.autograd.grad((f[0] * s).sum(), [*parameters.values()], retain_graph=True)
                found.append(dict(zip(parameters, g, strict=True)))
        first += len(x)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_every_parameter(name: str) -> None:
    """Each entry of each parameter once, whatever it is tied to; F is their second moment."""
    question = problem(name)
    truth = by_loop(question)
    runs = list(ek.per_sample_gradients(question))
    blocks = ek.exact_fisher(question)
    layers = ek.find_parameters(question.model)
    assert list(blocks) == [layer.name for layer in layers]
    assert {p for layer in layers for p in layer.parameters} == {*truth[0]}
    entries = sum(layer.shape[0] * layer.shape[1] for layer in layers)
    assert entries == sum(g.numel() for g in truth[0].values())
    for layer in layers:
        G = torch.cat([run[layer.name] for run in runs]).flatten(0, 1)
        assert G.shape[1:] == layer.shape
        expected = torch.stack([layer.to_matrix(one) for one in truth])
        torch.testing.assert_close(G, expected, rtol=1e-11, atol=1e-12)
        for one, gradients in zip(G, truth, strict=True):
            for parameter, gradient in layer.from_matrix(one, gradients).items():
                torch.testing.assert_close(gradient, gradients[parameter], rtol=1e-11, atol=1e-12)
        squares = expected.square().sum() / 4
        torch.testing.assert_close(blocks[layer.name].trace(), squares)


def test_a_parameter_without_entries_is_none() -> None:
    """Of no registers, or no classes: it has no gradient, and needs no layer."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)).double()
    model.registers = nn.Parameter(torch.zeros(0, 4).double())
    model.register_forward_pre_hook(lambda m, args: torch.cat([args[0], m.registers]))
    question = ek.Problem(model, [(X[0], X[0, :, :2])], ek.Gaussian())
    assert [*ek.exact_fisher(question)] == [*ek.ekfac(question)] == ["0", "1"]


def test_what_is_one_layer_and_what_is_a_parameter_by_itself() -> None:
    def names(model: nn.Module) -> dict[str, tuple[str, ...]]:
        return {layer.name: layer.parameters for layer in ek.find_parameters(model)}

    apart = {"one": ("one.weight",), "gain": ("gain",)}
    apart |= {name: (name,) for name in ("one.bias", "two.bias")}
    assert names(MODELS["different biases"][0]()) == apart
    assert names(one_bias()) == {
        "one": ("one.weight", "one.bias"),
        "two": ("two.weight",),
        "gain": ("gain",),
    }
    assert names(language_model(True))["emb"] == ("emb.weight", "head.bias")


@pytest.mark.parametrize("name", ["embedding and head", "LayerNorm", "attention"])
def test_parameters_can_be_named(name: str) -> None:
    question = problem(name)
    whole = ek.exact_fisher(question)
    for one in whole:
        alone = ek.exact_fisher(
            ek.Problem(
                question.model,
                question.batches,
                ek.Gaussian(),
                fisher=question.fisher,
                layers=(one,),
            )
        )
        assert list(alone) == [one]
        torch.testing.assert_close(alone[one].dense(), whole[one].dense())


def test_one_parameter_of_a_layer_can_be_named() -> None:
    question = problem("LayerNorm")
    named = ek.Problem(
        question.model,
        question.batches,
        ek.Gaussian(),
        fisher=question.fisher,
        layers=("net.0.bias", "gain"),
    )
    F_b, F_layer = ek.exact_fisher(named)["net.0.bias"], ek.exact_fisher(question)["net.0"]
    last = torch.arange(4, 20, 5)
    torch.testing.assert_close(F_b.dense(), F_layer.dense()[last][:, last])


@pytest.mark.parametrize("name", MODELS)
def test_where_there_are_no_factors_the_layers_to_pass_are_listed(name: str) -> None:
    question = problem(name)
    with pytest.raises(ek.ProblemError) as caught:
        ek.ekfac(question)
    listed = re.findall(r"Problem\(layers=(\(.*?\))\)", str(caught.value))
    if listed:
        named = ast.literal_eval(listed[-1])
        E = ek.ekfac(ek.Problem(question.model, question.batches, ek.Gaussian(), layers=named))
        assert tuple(E) == named
    else:
        assert "of which there is none here" in str(caught.value)


def test_of_many_layers_each_is_given_its_own_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """``vmap`` takes every tensor that it is given, of hundreds of layers as often as there are."""
    sizes = []

    def noting(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            sizes.append(len(tree_leaves(given)))
            return vmap(function, **options)(*given)

        return run

    monkeypatch.setattr(of_gradients, "vmap", noting)
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    x, y = torch.randn(2, 3, 2)
    list(ek.per_sample_gradients(ek.Problem(model, [(x, y)], ek.Gaussian())))
    assert len([size for size in sizes if size > 2]) == 3  # outputs; gradients, of two axes
