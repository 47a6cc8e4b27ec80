"""BackPACK: KFLR, the diagonal and the root of the GGN, gradients of samples and their squares.

Documented: extensions of one backward pass over one batch; the scale is that of the loss, here
``reduction="mean"``: gradients of samples carry its 1/N (``BatchGrad``), squares its square; W and
b are parameters apart, each with a block of its own, and a convolution's KFLR is KFC, which is
expand, for W. Layers and losses as in ``module_exts`` of every extension.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from backpack import backpack, extend, extensions
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import (
    Convention,
    Factors,
    WithBias,
    adapted,
    mean_loss,
    of_loss,
    samples,
)
from ekfac_ref.model.layers import Layer

_scale = of_loss(mean_loss)


def _loss(problem: ek.Problem) -> nn.Module:
    likelihood = problem.likelihood
    if isinstance(likelihood, ek.Categorical):
        if likelihood.class_axis != 1 and any(y.dim() > 1 for _, y in problem.batches):
            raise NotImplementedError("classes stand on axis 1, as in torch's CrossEntropyLoss")
        return nn.CrossEntropyLoss(ignore_index=likelihood.ignore_index)
    return mean_loss(likelihood)


def _found(problem: ek.Problem, extension: Any) -> tuple[Sequence[Layer], dict[str, Any]]:
    """The layers, and what the extension has saved of every parameter."""
    if problem.mask is not None:
        raise NotImplementedError("there is no argument for a mask of positions")
    x, y = zip(*problem.batches, strict=True)
    if any(not isinstance(one, Tensor) for one in x):
        raise NotImplementedError("a module has one tensor as its input")
    model, loss = extend(copy.deepcopy(problem.model)), extend(_loss(problem))
    layers = ek.find_layers(model, problem.layers)
    named = dict(model.named_parameters())
    with backpack(extension):
        loss(model(torch.cat(x)), torch.cat(y)).backward()
    names = [name for layer in layers for name in layer.parameters]
    return layers, {name: getattr(named[name], extension.savefield) for name in names}


def _kflr(problem: ek.Problem) -> dict[str, Any]:
    layers, found = _found(problem, extensions.KFLR())
    blocks: dict[str, Any] = {}
    for layer in layers:
        weight = Factors(*found[layer.parameters[0]])
        blocks[layer.name] = weight
        if layer.bias is not None:
            (B,) = found[layer.parameters[1]]
            blocks[layer.name] = WithBias(weight, bias=Factors(B, torch.ones(1, 1)))
    return blocks


def _matrices(problem: ek.Problem, extension: Any, scale: float) -> dict[str, Tensor]:
    layers, found = _found(problem, extension)
    return {layer.name: layer.to_matrix(found) / scale for layer in layers}


def _rows(problem: ek.Problem, extension: Any, scale: float) -> dict[str, Tensor]:
    """[N, C, d_out, d_in] of [N, ...] or [C, N, ...]."""
    layers, found = _found(problem, extension)
    gradients = {}
    for layer in layers:
        parts = {name: found[name] for name in layer.parameters}
        if isinstance(extension, extensions.SqrtGGNExact):
            parts = {name: part.transpose(0, 1) for name, part in parts.items()}
        else:
            parts = {name: part[:, None] for name, part in parts.items()}
        N, C = parts[layer.parameters[0]].shape[:2]
        gradients[layer.name] = torch.stack(
            [
                torch.stack(
                    [layer.to_matrix({k: p[n, c] for k, p in parts.items()}) for c in range(C)]
                )
                for n in range(N)
            ]
        )
        gradients[layer.name] /= scale
    return gradients


def _abilities(fisher: type, layers: Sequence[type[nn.Module]]) -> ct.Abilities:
    return ct.Abilities(
        layers=tuple(layers),
        likelihoods=(ek.Gaussian, ek.Categorical, ek.Bernoulli),
        fishers=(fisher,),
        sharings=(ek.Expand,),
        shared_weights=False,
        masks=False,
    )


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ALL = (nn.Linear, nn.Embedding, *_CONVOLUTIONS, *_TRANSPOSED)

factors = ct.Subject(
    "BackPACK",
    kfac=adapted(_kflr, Convention(scale=_scale)),
    definition=ct.Definition(bias=ct.Separate()),
    abilities=_abilities(ek.Exact, (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)),
)

root = ct.Subject(
    "BackPACK, GGN",
    diagonal=lambda p: _matrices(p, extensions.DiagGGNExact(), _scale(p)),
    per_sample_gradients=lambda p: _rows(
        p, extensions.SqrtGGNExact(), (_scale(p) / samples(p)) ** 0.5
    ),
    abilities=_abilities(ek.Exact, _ALL),
)

gradients = ct.Subject(
    "BackPACK, gradients",
    diagonal=lambda p: _matrices(p, extensions.SumGradSquared(), _scale(p) / samples(p)),
    per_sample_gradients=lambda p: _rows(p, extensions.BatchGrad(), _scale(p) ** 0.5 / samples(p)),
    abilities=_abilities(ek.Empirical, _ALL),
)
