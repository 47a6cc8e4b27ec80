"""curvlinops: KFAC and EKFAC of Linear and Conv2d, and the whole GGN or empirical Fisher.

Documented: losses, layers and Fishers in ``KFACLinearOperator``; the bias among the inputs by
``separate_weight_and_bias=False``; classes on axis 1, as in torch; EKFAC for outputs [N, C] alone;
the scale is c sum_n of the Hessians, or of the outer products of gradients, of loss terms, where c
is what ``reduction="mean"`` divides by (``EFLinearOperator``). The inverse is
``KFACInverseLinearOperator(use_exact_damping=True)``.
"""

from typing import Any

import curvlinops as theirs
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import mean_loss, samples
from peers.adapters.of_layer import OfGroups, Product, blocks, whole


def _loss(problem: ek.Problem) -> nn.Module:
    likelihood = problem.likelihood
    if isinstance(likelihood, ek.Categorical):
        if likelihood.class_axis != 1 and any(y.dim() > 1 for _, y in problem.batches):
            raise NotImplementedError("classes stand on axis 1, as in torch's CrossEntropyLoss")
        return nn.CrossEntropyLoss(ignore_index=likelihood.ignore_index)
    return mean_loss(likelihood)


def _scale(problem: ek.Problem) -> float:
    labels = [y for _, y in problem.batches]
    if isinstance(problem.likelihood, ek.Categorical):
        labels = [y[y != problem.likelihood.ignore_index] for y in labels]
    c = 1 / sum(y.numel() for y in labels)
    of_a_term = 2.0 if isinstance(problem.likelihood, ek.Gaussian) else 1.0  # torch has no half
    return samples(problem) * c * of_a_term ** (1 + isinstance(problem.fisher, ek.Empirical))


def _parameters(problem: ek.Problem) -> dict[str, nn.Parameter]:
    layers = ek.find_layers(problem.model, problem.layers)
    named = dict(problem.model.named_parameters())
    return {name: named[name] for layer in layers for name in layer.parameters}


def _asked(problem: ek.Problem) -> tuple[Any, ...]:
    if problem.mask is not None:
        raise NotImplementedError("there is no argument for a mask of positions")
    if any(not isinstance(x, Tensor) for x, _ in problem.batches):
        raise NotImplementedError("inputs are a tensor, or a mapping with a batch_size_fn")
    parameters = list(_parameters(problem).values())
    return problem.model, _loss(problem), parameters, problem.batches


def _factored(operator: Any) -> Any:
    def answer(problem: ek.Problem) -> dict[str, OfGroups]:
        empirical = isinstance(problem.fisher, ek.Empirical)
        reduce = isinstance(problem.sharing, ek.Reduce)
        matrix = operator(
            *_asked(problem),
            fisher_type=theirs.FisherType.EMPIRICAL if empirical else theirs.FisherType.TYPE2,
            kfac_approx=theirs.KFACType.REDUCE if reduce else theirs.KFACType.EXPAND,
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        zero = [torch.zeros_like(p) for p in _parameters(problem).values()]
        matrix @ zero  # computes what it is made of, now rather than at the first product

        def inverse(damping: float) -> Product:
            solver = theirs.KFACInverseLinearOperator(matrix, damping, use_exact_damping=True)
            return lambda tensors: solver @ tensors

        layers = ek.find_layers(problem.model, problem.layers)
        return blocks(layers, _parameters(problem), lambda t: matrix @ t, inverse, _scale(problem))

    return answer


def _product(problem: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    empirical = isinstance(problem.fisher, ek.Empirical)
    operator = theirs.EFLinearOperator if empirical else theirs.GGNLinearOperator
    matrix, scale = operator(*_asked(problem)), _scale(problem)
    layers = ek.find_layers(problem.model, problem.layers)
    found = whole(_parameters(problem), lambda tensors: matrix @ tensors, layers, V)
    return {name: product / scale for name, product in found.items()}


_LIKELIHOODS = (ek.Gaussian, ek.Categorical, ek.Bernoulli)

factors = ct.Subject(
    "curvlinops",
    ekfac=_factored(theirs.EKFACLinearOperator),
    kfac=_factored(theirs.KFACLinearOperator),
    abilities=ct.Abilities(
        layers=(nn.Linear, nn.Conv2d), likelihoods=_LIKELIHOODS, shared_weights=False, masks=False
    ),
)

products = ct.Subject(
    "curvlinops, products",
    fisher_product=_product,
    abilities=ct.Abilities(likelihoods=_LIKELIHOODS, sharings=(ek.Expand,), masks=False),
)
