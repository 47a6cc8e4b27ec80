"""ASDL: Fishers by shape - layer-wise, Kronecker-factored, diagonal, full - and its EKFAC.

Documented in ``NaturalGradientMaker`` and ``FisherConfig``: exact Fisher of a cross entropy with
classes on the last axis or of a squared error with its half, empirical Fisher of any loss, which
is summed and divided by ``data_size``; shapes; layers in ``_supported_classes``. W and b share the
factor B and are not coupled. ``EkfacGradientMaker`` is for the empirical Fisher.
"""

import copy
from collections.abc import Sequence
from typing import Any

import asdl
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import (
    Convention,
    Factors,
    Matrix,
    WithBias,
    adapted,
    of_loss,
    samples,
    sum_loss,
)
from ekfac_ref.model.layers import Layer

_EXACT, _EMPIRICAL = asdl.FISHER_EXACT, asdl.FISHER_EMP
_sum_over_samples = of_loss(sum_loss)


def _scale(problem: ek.Problem) -> float:
    """The empirical Fisher is that of torch's loss, and a squared error has no half there."""
    exact = isinstance(problem.fisher, ek.Exact)
    return 1.0 if exact else _sum_over_samples(problem) / samples(problem)


def _set_up(problem: ek.Problem, maker: Any, model: nn.Module, x: Any, y: Tensor) -> None:
    inputs = x if isinstance(x, tuple) else (x,)
    if not all(isinstance(one, Tensor) for one in inputs):
        raise NotImplementedError("inputs are passed on by position")
    outputs = maker.setup_model_call(model, *inputs)
    maker.setup_loss_call(sum_loss(problem.likelihood), outputs, y)


def _checked(problem: ek.Problem) -> str:
    """The name of the Fisher, of what is documented."""
    if problem.mask is not None:
        raise NotImplementedError("there is no argument for a mask of positions")
    if isinstance(problem.fisher, ek.Empirical):
        return str(_EMPIRICAL)
    if isinstance(problem.likelihood, ek.Categorical):
        if problem.likelihood.class_axis == 1 and any(y.dim() > 1 for _, y in problem.batches):
            raise NotImplementedError("the exact Fisher has classes on the last axis")
    elif not isinstance(problem.likelihood, ek.Gaussian):
        raise NotImplementedError("loss_type is cross_entropy or mse")
    return str(_EXACT)


def _fisher(problem: ek.Problem, shape: str) -> tuple[Any, Sequence[Layer]]:
    """A copy of the model with ``fisher`` in its modules, and the layers."""
    likelihood = problem.likelihood
    categorical = isinstance(likelihood, ek.Categorical)
    config = asdl.FisherConfig(
        fisher_type=_checked(problem),
        fisher_shapes=[shape],
        loss_type=asdl.LOSS_CROSS_ENTROPY if categorical else asdl.LOSS_MSE,
        data_size=int(samples(problem)),
        ignore_index=likelihood.ignore_index if isinstance(likelihood, ek.Categorical) else -1,
    )
    model = copy.deepcopy(problem.model)
    maker = asdl.get_fisher_maker(model, config)
    for number, (x, y) in enumerate(problem.batches):
        _set_up(problem, maker, model, x, y)
        maker.forward_and_backward(accumulate=number > 0)
    return model, ek.find_layers(model, problem.layers)


def _kfac(problem: ek.Problem) -> dict[str, Any]:
    if problem.sharing != ek.Expand():
        raise NotImplementedError("KFAC of convolutions is KFC, which is expand")
    model, layers = _fisher(problem, asdl.SHAPE_KRON)
    found: dict[str, Any] = {}
    for layer in layers:
        kron = model.get_submodule(layer.name).fisher.kron
        found[layer.name] = weight = Factors(kron.B, kron.A)
        if layer.bias is not None:
            found[layer.name] = WithBias(weight, bias=Factors(kron.B, torch.ones(1, 1)))
    return found


def _exact(problem: ek.Problem) -> dict[str, Any]:
    model, layers = _fisher(problem, asdl.SHAPE_LAYER_WISE)
    found: dict[str, Any] = {}
    for layer in layers:
        matrix, d = model.get_submodule(layer.name).fisher.data, layer.shape[0] // layer.groups
        sizes = [layer.weight.numel()] + ([] if layer.bias is None else [layer.bias.numel()])
        parts = torch.arange(sum(sizes)).split(sizes)
        shaped = [parts[0].view_as(layer.weight), *parts[1:]]
        place = layer.to_matrix(dict(zip(layer.parameters, shaped, strict=True)))
        groups = [rows.flatten() for rows in place.split(d)]
        of_groups = [Matrix(matrix[group][:, group]) for group in groups]
        found[layer.name] = of_groups if layer.groups > 1 else of_groups[0]
    return found


def _diagonal(problem: ek.Problem) -> dict[str, Tensor]:
    model, layers = _fisher(problem, asdl.SHAPE_DIAG)
    found = {}
    for layer in layers:
        diag = model.get_submodule(layer.name).fisher.diag
        parts = dict(zip(layer.parameters, (diag.weight, diag.bias), strict=False))
        found[layer.name] = layer.to_matrix(parts) / _scale(problem)
    return found


def _product(problem: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    model, layers = _fisher(problem, asdl.SHAPE_FULL)
    named = dict(model.named_parameters())
    if {name for layer in layers for name in layer.parameters} != {
        name for name, p in named.items() if p.requires_grad
    }:
        raise NotImplementedError("the full matrix is that of all parameters")
    given: dict[str, Tensor] = {}
    for layer in layers:
        given |= layer.from_matrix(V[layer.name])
    trainable = [(name, p) for name, p in named.items() if p.requires_grad]
    vector = asdl.ParamVector([p for _, p in trainable], [given[name] for name, _ in trainable])
    answer = model.fisher.mvp(vectors=vector)
    found = {name: answer.get_vector_by_param(p) for name, p in trainable}
    return {layer.name: layer.to_matrix(found) / _scale(problem) for layer in layers}


def _gradients(problem: ek.Problem) -> dict[str, Tensor]:
    if not isinstance(problem.fisher, ek.Empirical):
        raise NotImplementedError("batch_gradient is that of one loss")
    model, loss = copy.deepcopy(problem.model), sum_loss(problem.likelihood)
    layers = ek.find_layers(model, problem.layers)
    chunks: list[dict[str, Tensor]] = []
    for x, y in problem.batches:
        inputs = x if isinstance(x, tuple) else (x,)
        if not all(isinstance(one, Tensor) for one in inputs):
            raise NotImplementedError("inputs are passed on by position")
        model.zero_grad()
        asdl.save_batch_gradient(model, lambda x=inputs, y=y: _back(loss(model(*x), y)))
        named = model.named_parameters()
        chunks.append(
            {n: p.__dict__.pop("batch_grad") for n, p in named if hasattr(p, "batch_grad")}
        )
    found = {}
    for layer in layers:
        rows = [
            layer.to_matrix({name: chunk[name][n] for name in layer.parameters})
            for chunk in chunks
            for n in range(len(chunk[layer.parameters[0]]))
        ]
        found[layer.name] = torch.stack(rows)[:, None] / _scale(problem) ** 0.5
    return found


def _back(loss: Tensor) -> Tensor:
    loss.backward()
    return loss


def _ekfac_step(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
    """What ``EkfacGradientMaker`` makes of gradients, after the curvature of all samples."""
    _checked(problem)
    x, y = (torch.cat(parts) for parts in zip(*problem.batches, strict=True))
    model = copy.deepcopy(problem.model)
    layers = ek.find_layers(model, problem.layers)
    config = asdl.PreconditioningConfig(data_size=len(y), damping=damping * _scale(problem))
    maker = asdl.EkfacGradientMaker(model, config, fisher_type=_EMPIRICAL)
    _set_up(problem, maker, model, x, y)
    maker.update_curvature()
    maker.update_preconditioner()
    named = dict(model.named_parameters())
    for layer in layers:
        for name, part in layer.from_matrix(V[layer.name]).items():
            named[name].grad = part.clone()
    maker.precondition()
    found = {name: p.grad for name, p in named.items() if p.grad is not None}
    return {layer.name: layer.to_matrix(found) * _scale(problem) for layer in layers}


def _abilities(*layers: type[nn.Module], fishers: tuple[Any, ...]) -> ct.Abilities:
    return ct.Abilities(
        layers=layers,
        fishers=fishers,
        sharings=(ek.Expand,),
        shared_weights=False,
        masks=False,
    )


_BOTH = (ek.Exact, ek.Empirical)

factors = ct.Subject(
    "ASDL",
    kfac=adapted(_kfac, Convention(scale=_scale)),
    definition=ct.Definition(bias=ct.Separate()),
    abilities=_abilities(nn.Linear, nn.Conv2d, fishers=_BOTH),
)

exact = ct.Subject(
    "ASDL, exact",
    exact_fisher=adapted(_exact, Convention(scale=_scale)),
    diagonal=_diagonal,
    fisher_product=_product,
    abilities=_abilities(nn.Linear, nn.Conv2d, nn.Embedding, fishers=_BOTH),
)

gradients = ct.Subject(
    "ASDL, gradients",
    per_sample_gradients=_gradients,
    abilities=_abilities(nn.Linear, nn.Conv2d, nn.Embedding, fishers=(ek.Empirical,)),
)

steps = ct.Subject(
    "ASDL, EKFAC steps",
    precondition=_ekfac_step,
    definition=ct.Definition(bias=ct.Separate()),
    abilities=_abilities(nn.Linear, nn.Conv2d, fishers=(ek.Empirical,)),
)
