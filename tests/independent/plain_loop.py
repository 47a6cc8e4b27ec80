"""Gradients of one sample and one Fisher column at a time, by plain autograd.

For sample n with output f_n and columns s_nc (constants), G_nc is the gradient of <f_n, s_nc> with
respect to [W | b]. No factor of N.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tests.independent.columns import Columns, Loss
from tests.independent.layouts import MATRIX_OF, bias_of, layers_of


def samples(inputs: Any, targets: Tensor) -> Iterator[tuple[Callable[[nn.Module], Tensor], Tensor]]:
    """For each sample: a function that runs a model on it alone, and its target [1, ...]."""
    for n in range(len(targets)):
        one = slice(n, n + 1)
        if isinstance(inputs, tuple):
            yield lambda model, one=one: model(*(x[one] for x in inputs)), targets[one]
        elif isinstance(inputs, dict):
            yield (
                lambda model, one=one: model(**{k: x[one] for k, x in inputs.items()}),
                targets[one],
            )
        else:
            yield lambda model, one=one: model(inputs[one]), targets[one]


def gradient(f: Tensor, s: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    """The gradient of <f, s> by each wanted tensor; 0 for one that f does not depend on."""
    found = torch.autograd.grad(f, wanted, grad_outputs=s, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if d is None else d for w, d in zip(wanted, found, strict=True)]


def per_sample_gradients(
    model: nn.Module, inputs: Any, targets: Tensor, loss: Loss, columns: Columns
) -> dict[str, list[Tensor]]:
    """{layer: G_n [C, d_out, d_in] for each n}; rows of all groups one below the other."""
    G: dict[str, list[Tensor]] = {name: [] for name in layers_of(model)}
    for run, y in samples(inputs, targets):
        f = run(model)
        S = columns(loss, f, y)
        for name, owners in layers_of(model).items():
            G[name].append(torch.stack([_matrix_gradient(f, s, owners) for s in S]))
    return G


def _matrix_gradient(f: Tensor, s: Tensor, owners: list[nn.Module]) -> Tensor:
    """The gradient of <f, s> with respect to [W | b]: [d_out, d_in]."""
    module, bias = owners[0], bias_of(owners)
    parameters = [module.weight] if bias is None else [module.weight, bias]
    gradients = gradient(f, s, parameters)
    matrix = MATRIX_OF[type(module)](module, gradients[0])
    return matrix if bias is None else torch.cat([matrix, gradients[1][:, None]], 1)
