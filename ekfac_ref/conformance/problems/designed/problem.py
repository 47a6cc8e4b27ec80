"""A designed problem: its parts, and numbers for them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.problems import data
from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed.design import Design
from ekfac_ref.conformance.problems.facts import facts_of
from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.conformance.problems.networks import Network
from ekfac_ref.conformance.problems.strategies import (
    SEEDS,
    drawn_targets,
    filler,
    with_drawn_values,
)
from ekfac_ref.model.forward import call
from ekfac_ref.model.weights.layer_kinds import OP_OF
from ekfac_ref.question.likelihoods import Categorical
from ekfac_ref.question.problem import Problem

SATURATIONS = 3  # a layer is made 32 times as large up to so often


def designed_problem(design: Design, draw: Draw) -> Callable[[], Problem]:
    """What makes a problem of this design; sizes and numbers are the draw's, who is done by then.

    To be called once: its network becomes the problem's.
    """
    return partial(_made, design, design.wiring(design, draw), draw(design.sizes), draw(SEEDS))


def _made(design: Design, network: Network, sizes: tuple[int, ...], seed: int) -> Problem:
    fill = filler(False, seed, design.dtype)
    model = with_drawn_values(network.model, fill, design.dtype)
    _set_statistics(model, fill)
    if design.frozen_bias:
        _freeze_biases(model)
    inputs = network.inputs(sum(sizes), fill)
    y = _targets(design, call(model, tree_map(torch.clone, inputs)), fill)
    problem = Problem(
        model,
        design.batching(inputs, y, sizes),
        design.likelihood,
        fisher=design.fisher,
        sharing=design.sharing,
        layers=network.layers,
        mask=network.mask,
    )
    for _ in range(SATURATIONS if design.saturated else 0):
        if FEATURES["saturated"].has(facts_of(problem)):
            break
        data.saturate(model)
    return problem


def _targets(design: Design, f: Tensor, fill: Callable[..., Tensor]) -> Tensor:
    """Labels for the outputs f; where some are to be ignored, one of every second sample is."""
    likelihood = design.likelihood
    if not isinstance(likelihood, Categorical):
        return drawn_targets(likelihood, tuple(f.shape[:-1]), f.shape[-1], fill)
    of_classes = f.movedim(likelihood.class_axis, -1)
    *shape, K = of_classes.shape
    y = drawn_targets(likelihood, tuple(shape), K, fill)
    if design.ignored:
        y.reshape(len(y), -1)[1::2, 0] = likelihood.ignore_index
    return y


def _freeze_biases(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, tuple(OP_OF)) and getattr(module, "bias", None) is not None:
            module.bias.requires_grad_(False)


def _set_statistics(model: nn.Module, fill: Callable[..., Tensor]) -> None:
    """A BatchNorm has seen other data than numbers of mean 0 and variance 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.get_buffer("running_mean").copy_(fill(module.num_features))
            module.get_buffer("running_var").copy_(0.5 + fill(module.num_features).abs())
