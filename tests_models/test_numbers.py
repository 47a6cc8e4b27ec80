"""Gradients, traces and eigenvalues of networks that nobody here wrote, by explicit loops."""

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import ekfac_ref as ek
from tests_models.architectures import ARCHITECTURES, Architecture
from tests_models.loop import gradients, matrix
from tests_models.vision import VISION

Answer = TypeVar("Answer")
Record = Callable[[str, object], None]
EXACT = 1e-12  # in units of the largest entry
TRANSPOSED_EXPERTS = (
    hf.GptOssForCausalLM,
    hf.Llama4ForCausalLM,
    hf.RecurrentGemmaForCausalLM,
)
THIRDS = ("q_proj", "k_proj", "v_proj")  # of a packed weight
EVERY = {**ARCHITECTURES, **VISION}
of_all = pytest.mark.parametrize("name", EVERY)


@pytest.fixture(autouse=True)
def _slower_ways_are_ways() -> Any:
    """That samples are run one after another is said, and no matter here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def problem(architecture: Architecture) -> ek.Problem:
    return ek.Problem(
        architecture.model(),
        [architecture.batch()],
        ek.Categorical(),
        fisher=ek.Empirical(),
        mask=architecture.mask,
        output=architecture.output,
    )


def off(x: Tensor, y: Tensor, what: str) -> float:
    """By how much of the largest entry they differ."""
    ratio = float((x - y).abs().max()) / max(float(y.abs().max()), 1e-30)
    assert ratio <= EXACT, f"{what}: off by {ratio:.2g}"
    return ratio


@of_all
def test_gradients_of_every_parameter_and_their_sum(name: str, record_property: Record) -> None:
    architecture = EVERY[name]
    question, (G,), _ = _advised(
        architecture, lambda question: tuple(ek.per_sample_gradients(question))
    )
    ((inputs, labels),) = question.batches
    truth = gradients(architecture, question.model, inputs, labels, together=False)
    layers = {layer.name: layer for layer in ek.parameters_of(question)}
    named = {p for layer in layers.values() for p in layer.parameters}
    assert all(not any(one[p].any() for one in truth) for p in truth[0].keys() - named)
    ratios = []
    for layer_name, layer in layers.items():
        expected = torch.stack([_flat(layer, one) for one in truth])
        pairs = zip(G[layer_name], truth, strict=True)  # rows of other layers are as they are
        found = torch.stack([_flat(layer, layer.from_matrix(G_n[0], one)) for G_n, one in pairs])
        ratios.append(off(found, expected, layer_name))
        ratios.append(off(found.sum(0), expected.sum(0), f"sum of {layer_name}"))
    record_property("network", name)
    record_property("parameters", sum(p.numel() for p in question.model.parameters()))
    record_property("G off by", f"{max(ratios):.0e}")


def _advised(
    architecture: Architecture, ask: Callable[[ek.Problem], Answer]
) -> tuple[ek.Problem, Answer, str]:
    """The problem, or the one that the message advises; the answer; who is refused before, if any.

    There is one round of advice at most.
    """
    question = problem(architecture)
    try:
        return question, ask(question), ""
    except ek.ProblemError as error:
        listed = ast.literal_eval(re.findall(r"Problem\(layers=(\(.*?\))\)", str(error))[-1])
        question = replace(question, layers=listed)
        return question, ask(question), str(error).partition(" is ")[0].partition(": its")[0]


@pytest.mark.parametrize("name", ["Swin", "SwinTransformer"])
def test_without_what_is_named_samples_run_together(name: str) -> None:
    """Tables of biases are looked up once for all samples."""
    with pytest.warns(UserWarning, match="one after another") as said:
        question, blocks, _ = _advised(EVERY[name], ek.kfac)
    named = {x for one in said for x in re.findall(r"'(.*?)'", str(one.message))}
    assert named
    assert all(x.endswith("relative_position_bias_table") for x in named)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ek.kfac(replace(question, layers=tuple(x for x in blocks if x not in named)))


def _flat(layer: ek.Layer, gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradients[name].flatten() for name in layer.parameters])


@of_all
def test_traces_and_eigenvalues_of_the_layers_that_are_advised(
    name: str, record_property: Record
) -> None:
    """In the package's own basis, and without more than one round of advice."""
    architecture = EVERY[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        question, E, refused = _advised(architecture, ek.ekfac)
    ((inputs, labels),) = question.batches
    model = question.model
    truth = gradients(architecture, model, inputs, labels, together=True)
    ratios = []
    for layer, block in E.items():
        G = torch.stack([_of_layer(model, layer, one) for one in truth])
        ratios.append(off(block.trace(), G.square().sum() / len(G), f"trace of {layer}"))
        groups = block.blocks if isinstance(block, ek.BlockDiagonal) else (block,)
        for part, G_k in zip(groups, G.chunk(len(groups), 1), strict=True):
            squares = (part.Q_B.T @ G_k @ part.Q_A).square().mean(0)
            ratios.append(off(part.eigenvalues, squares, f"Lambda of {layer}"))
    alone = any("one after another" in str(one.message) for one in said)
    record_property("network", name)
    record_property("layers", len(E))
    record_property("Lambda off by", f"{max(ratios):.0e}")
    record_property("samples", "alone" if alone else "together")
    record_property("refused", refused)


def _of_layer(model: nn.Module, layer: str, gradient: dict[str, Tensor]) -> Tensor:
    """[W | b] of one sample; a shared module's parameters go by the first of their names."""
    name, _, part = layer.rpartition(".")
    if part in THIRDS and isinstance(owner := model.get_submodule(name), nn.MultiheadAttention):
        k, d = THIRDS.index(part), owner.embed_dim
        W, b = gradient[f"{name}.in_proj_weight"], gradient[f"{name}.in_proj_bias"][:, None]
        return torch.cat([W, b], 1)[k * d : (k + 1) * d]
    if (parameter := layer.partition("[")[0]) in gradient:
        return _of_no_module(model, parameter, layer[len(parameter) + 1 : -1], gradient)
    module = model.get_submodule(layer)
    first = {id(p): n for n, p in model.named_parameters()}
    W = matrix(module, gradient[first[id(module.weight)]])
    bias = getattr(module, "bias", None)
    return W if bias is None else torch.cat([W, gradient[first[id(bias)]][:, None]], 1)


def _of_no_module(
    model: nn.Module, parameter: str, expert: str, gradient: dict[str, Tensor]
) -> Tensor:
    """A router's, stored like a Linear's; or of one expert, in some models transposed.

    In XLNet two axes are heads and their features, inputs of the last matrix, outputs of others.
    Swin looks up rows of a table, whose numbers are the inputs.
    """
    W = gradient[parameter]
    if parameter.endswith("relative_position_bias_table"):
        return W.T
    if isinstance(model, hf.XLNetLMHeadModel):
        return W.flatten(1) if parameter.endswith(".o") else W.flatten(1).T
    if not expert:
        bias = gradient.get(parameter.removesuffix("weight") + "bias")
        return W if bias is None else torch.cat([W, bias[:, None]], 1)
    names = (f"{parameter}_bias", f"{parameter.removesuffix('_weight')}_bias")
    W, biases = W[int(expert)], next((gradient[b] for b in names if b in gradient), None)
    W = W.T if isinstance(model, TRANSPOSED_EXPERTS) else W
    return W if biases is None else torch.cat([W, biases[int(expert)][:, None]], 1)
