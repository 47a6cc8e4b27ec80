"""Two other names of the exact Fisher: the generalised Gauss-Newton matrix, and a Hessian.

Neither has columns or square roots: the loss is torch's own, and forward mode differentiates. The
one file here that uses torch.func.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jvp

from tests.independent.columns import Loss
from tests.independent.layouts import MATRIX_OF, bias_of, layers_of

Batches = Iterable[tuple[Any, Tensor]]
Function = Callable[[Tensor], Tensor]


def gauss_newton(model: nn.Module, batches: Batches, loss: Loss, layer: str) -> Tensor:
    """(1/N) sum J^T H J over batches, of outputs by [W | b] of one layer: [P, P]."""

    def of_batch(outputs: Function, loss: Function, theta: Tensor) -> Tensor:
        f = outputs(theta)
        columns = [jvp(outputs, (theta,), (v,))[1].flatten() for v in torch.eye(len(theta)).to(f)]
        J, H = torch.stack(columns, 1), hessian(loss)(f)
        return J.T @ H.reshape(len(J), -1) @ J

    return _mean(of_batch, model, batches, loss, layer)


def loss_hessian(model: nn.Module, batches: Batches, loss: Loss, layer: str) -> Tensor:
    """(1/N) the Hessian of the total loss by [W | b] of one layer: [P, P]."""

    def of_batch(outputs: Function, loss: Function, theta: Tensor) -> Tensor:
        return hessian(lambda theta: loss(outputs(theta)))(theta)

    return _mean(of_batch, model, batches, loss, layer)


def _mean(
    of_batch: Callable[[Function, Function, Tensor], Tensor],
    model: nn.Module,
    batches: Batches,
    loss: Loss,
    layer: str,
) -> Tensor:
    """(1/N) the sum over batches of a function of (outputs of theta, loss of outputs, theta).

    theta is the weight, then the bias, as torch stores them; the result is ordered like [W | b].
    """
    owners = layers_of(model)[layer]
    weight, bias = owners[0].weight, bias_of(owners)
    parameters = [weight] if bias is None else [weight, bias]
    theta = torch.cat([p.detach().flatten() for p in parameters])
    names = {parameter: name for name, parameter in model.named_parameters()}

    def outputs(theta: Tensor, x: Any) -> Tensor:
        values = theta.split([p.numel() for p in parameters])
        moved = {names[p]: v.view_as(p) for p, v in zip(parameters, values, strict=True)}
        if isinstance(x, dict):
            return functional_call(model, moved, (), x)
        return functional_call(model, moved, x if isinstance(x, tuple) else (x,))

    total, N = torch.zeros(()), 0
    for x, y in batches:
        of_theta, of_outputs = (lambda t, x=x: outputs(t, x)), (lambda f, y=y: loss(f, y))
        total, N = total + of_batch(of_theta, of_outputs, theta), N + len(y)
    order = MATRIX_OF[type(owners[0])](owners[0], torch.arange(weight.numel()).view_as(weight))
    if bias is not None:
        order = torch.cat([order, weight.numel() + torch.arange(len(bias))[:, None]], 1)
    return (total / N).detach()[order.flatten()][:, order.flatten()]
