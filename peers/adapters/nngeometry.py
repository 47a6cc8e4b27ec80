"""nngeometry: the Fisher as a whole, by layers, as KFAC, EKFAC, diagonal, and its Jacobian.

Documented: ``FIM`` has the exact Fisher of classification, of regression with unit covariance, of
one sigmoid; any other function of a batch, here the log-likelihood of the labels, goes into
``TorchHooksJacobianBackend``, and the matrix is (1/n) sum_n J^T J. Layers in ``LayerCollection``.
``PMatEKFAC`` is one after ``update_diag``. KFAC's ``solve`` damps by factors, with pi. Examples are
a DataLoader. Constants are of torch's default dtype, which is therefore set to the model's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from nngeometry.backend import TorchHooksJacobianBackend
from nngeometry.layercollection import LayerCollection
from nngeometry.metrics import FIM
from nngeometry.object import (
    PFMapDense,
    PMatBlockDiag,
    PMatDense,
    PMatDiag,
    PMatEKFAC,
    PMatKFAC,
    PVector,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import unit_loss
from peers.adapters.of_layer import OfGroups, Product, blocks, whole

_VARIANTS: dict[type, str] = {
    ek.Categorical: "classif_logits",
    ek.Gaussian: "regression",
    ek.Bernoulli: "classif_binary_logits",
}


@contextmanager
def _dtype(problem: ek.Problem) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(problem.dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _loader(problem: ek.Problem) -> Any:
    if isinstance(problem.batches, DataLoader):
        return problem.batches
    x, y = zip(*problem.batches, strict=True)
    if any(not isinstance(one, Tensor) for one in x):
        raise NotImplementedError("the inputs of a batch are one tensor")
    own = torch.Generator()  # or iterating draws from the global one
    return DataLoader(TensorDataset(torch.cat(x), torch.cat(y)), len(x[0]), generator=own)


def _layers(problem: ek.Problem) -> LayerCollection:
    modules = dict(problem.model.named_modules())
    collection = LayerCollection()
    for layer in ek.find_layers(problem.model, problem.layers):
        module = modules[layer.name]
        if any(not p.requires_grad for p in module.parameters(recurse=False)):
            raise NotImplementedError("a layer is taken with all of its parameters")
        collection.add_layer_from_model(problem.model, module)
    return collection


def _matrix(problem: ek.Problem, representation: Callable[..., Any]) -> Any:
    if problem.mask is not None:
        raise NotImplementedError("there is no argument for a mask of positions")
    if problem.sharing != ek.Expand():
        raise NotImplementedError("KFAC of convolutions is KFC, which is expand")
    loader, layers, model = _loader(problem), _layers(problem), problem.model
    if any(y.dim() > 1 + (y.is_floating_point()) for _, y in problem.batches):
        raise NotImplementedError("FIM has variants for outputs [N, C]")
    if isinstance(problem.fisher, ek.Exact):
        variant = _VARIANTS[type(problem.likelihood)]
        if isinstance(problem.likelihood, ek.Bernoulli) and next(iter(loader))[1].shape[1] > 1:
            raise NotImplementedError("classif_binary_logits is for one logit")
        return FIM(model, loader, representation, variant, layer_collection=layers)
    loss = unit_loss(problem.likelihood)

    def of_each(x: Tensor, y: Tensor) -> Tensor:
        f = model(x)
        return torch.stack([loss(f[n : n + 1], y[n : n + 1]) for n in range(len(y))])[:, None]

    generator = TorchHooksJacobianBackend(model, of_each, layer_collection=layers)
    return representation(generator=generator, examples=loader)


def _blocks(representation: Callable[..., Any]) -> Any:
    def answer(problem: ek.Problem) -> dict[str, OfGroups]:
        with _dtype(problem):
            matrix = _matrix(problem, representation)
            if representation is PMatEKFAC:
                matrix.update_diag(_loader(problem))
        parameters = _parameters(problem)
        product = _on_vectors(problem, matrix.mv)

        def inverse(damping: float) -> Product:
            return _on_vectors(problem, lambda v: matrix.solve(v, regul=damping))

        layers = ek.find_layers(problem.model, problem.layers)
        return blocks(layers, parameters, product, inverse, 1.0)

    return answer


def _on_vectors(problem: ek.Problem, function: Callable[[Any], Any]) -> Product:
    """A function of PVectors as one of tensors."""
    layers, names = _layers(problem), list(_parameters(problem))

    def product(tensors: list[Tensor]) -> list[Tensor]:
        vectors: dict[str, tuple[Tensor, ...]] = {}
        for name, tensor in zip(names, tensors, strict=True):
            layer = name.rpartition(".")[0]
            vectors[layer] = (*vectors.get(layer, ()), tensor.contiguous())  # it takes views
        with _dtype(problem):
            found = function(PVector(layers, dict_repr=vectors)).to_dict()
        return [tensor for layer in vectors for tensor in found[layer]]

    return product


def _parameters(problem: ek.Problem) -> dict[str, nn.Parameter]:
    named = dict(problem.model.named_parameters())
    layers = ek.find_layers(problem.model, problem.layers)
    return {name: named[name] for layer in layers for name in layer.parameters}


def _product(problem: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    with _dtype(problem):
        matrix = _matrix(problem, PMatDense)
    layers = ek.find_layers(problem.model, problem.layers)
    return whole(_parameters(problem), _on_vectors(problem, matrix.mv), layers, V)


def _cut(problem: ek.Problem, flat: Tensor) -> dict[str, Tensor]:
    """Of every parameter, its part of the last axis."""
    parameters = _parameters(problem)
    parts = flat.split([p.numel() for p in parameters.values()], -1)
    shaped = [x.unflatten(-1, p.shape) for x, p in zip(parts, parameters.values(), strict=True)]
    return dict(zip(parameters, shaped, strict=True))


def _diagonal(problem: ek.Problem) -> dict[str, Tensor]:
    with _dtype(problem):
        found = _cut(problem, _matrix(problem, PMatDiag).get_diag())
    layers = ek.find_layers(problem.model, problem.layers)
    return {layer.name: layer.to_matrix(found) for layer in layers}


def _gradients(problem: ek.Problem) -> dict[str, Tensor]:
    with _dtype(problem):
        jacobian = _matrix(problem, PFMapDense).to_torch()  # [C, N, parameters]
    C, N = jacobian.shape[:2]
    rows = [_cut(problem, row) for row in jacobian.flatten(0, 1)]
    return {
        layer.name: torch.stack([layer.to_matrix(row) for row in rows])
        .unflatten(0, (C, N))
        .transpose(0, 1)
        for layer in ek.find_layers(problem.model, problem.layers)
    }


_LIKELIHOODS = (ek.Gaussian, ek.Categorical, ek.Bernoulli)
_ALL = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)

factors = ct.Subject(
    "nngeometry",
    ekfac=_blocks(PMatEKFAC),
    kfac=_blocks(PMatKFAC),
    definition=ct.Definition(damping=ct.Factored()),
    abilities=ct.Abilities(
        layers=(nn.Linear, nn.Conv1d, nn.Conv2d),
        likelihoods=_LIKELIHOODS,
        sharings=(ek.Expand,),
        shared_weights=False,
        masks=False,
    ),
)

exact = ct.Subject(
    "nngeometry, exact",
    exact_fisher=_blocks(PMatBlockDiag),
    diagonal=_diagonal,
    per_sample_gradients=_gradients,
    fisher_product=_product,
    abilities=ct.Abilities(
        layers=_ALL,
        likelihoods=_LIKELIHOODS,
        sharings=(ek.Expand,),
        shared_weights=False,
        masks=False,
    ),
)
