r"""Two other names of the exact Fisher: the generalised Gauss-Newton matrix, and a Hessian.

Neither shares columns or square roots with the package: the output Hessian comes from autograd
through torch's own losses, the Jacobian from forward mode.
"""

from functools import singledispatch

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, hessian, jvp, vjp, vmap

from ekfac_ref.model.forward import call, with_parameters
from ekfac_ref.model.rewritten import Rewriting
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem


@singledispatch
def unit_loss(likelihood: Likelihood, f: Tensor, y: Tensor) -> Tensor:
    """The unit negative log-likelihood of a whole batch, by torch's own losses."""
    raise TypeError(f"no torch loss is known for {likelihood!r}")


@unit_loss.register
def _(likelihood: Gaussian, f: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(f, y, reduction="sum") / 2


@unit_loss.register
def _(likelihood: Categorical, f: Tensor, y: Tensor) -> Tensor:
    f = f.movedim(likelihood.class_axis, 1)
    return F.cross_entropy(f, y, reduction="sum", ignore_index=likelihood.ignore_index)


@unit_loss.register
def _(likelihood: Bernoulli, f: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(f, y, reduction="sum")


@unit_loss.register
def _(likelihood: Poisson, f: Tensor, y: Tensor) -> Tensor:
    return F.poisson_nll_loss(f, y, reduction="sum")


def gauss_newton(problem: Problem, layer: str) -> Float[Tensor, "P P"]:
    """(1/N) sum_batches J^T H J of one layer, all columns together, forward over reverse."""
    session = open_session(problem)
    directions = _directions(session, layer)
    total, N = torch.zeros(()), 0
    for x, y in problem.batches:
        outputs, loss = _outputs(session, layer, x), _loss_of(problem, y)
        with Rewriting():
            total, N = total + _jhj(outputs, loss, directions), N + len(y)
    return total / N


def _jhj(outputs, loss, directions):  # type: ignore[no-untyped-def]
    zero = _zero(directions[0])
    f, pullback, *_ = vjp(outputs, zero)

    def column(v: Tensor) -> Tensor:
        _, Jv, *_ = jvp(outputs, (zero,), (v,))
        _, HJv, *_ = jvp(grad(loss), (f,), (Jv,))
        return pullback(HJv)[0].reshape(-1)

    return vmap(column)(directions).T


def loss_hessian(problem: Problem, layer: str) -> Float[Tensor, "P P"]:
    """(1/N) the Hessian of the total unit loss with respect to [W | b] of one layer."""
    session = open_session(problem)
    zero = _zero(_directions(session, layer)[0])
    total, N = torch.zeros(()), 0
    for x, y in problem.batches:
        outputs, loss = _outputs(session, layer, x), _loss_of(problem, y)
        H = hessian(lambda W, outputs=outputs, loss=loss: loss(outputs(W)))(zero)
        total, N = total + H.reshape(zero.numel(), -1), N + len(y)
    return total / N


def _outputs(session: Session, name: str, inputs: object):  # type: ignore[no-untyped-def]
    """[W | b] - its current value -> outputs of a batch."""
    layer = next(layer for layer in session.layers if layer.name == name)
    values = dict(session.model.named_parameters())
    current = {key: values[key] for key in layer.parameters}

    def outputs(change: Tensor) -> Tensor:
        moved = {k: current[k] + v for k, v in layer.from_matrix(change).items()}

        return call(with_parameters(session.model, moved), inputs)

    return outputs


def _loss_of(problem: Problem, y: Tensor):  # type: ignore[no-untyped-def]
    return lambda f: unit_loss(problem.likelihood, f, y)


def _directions(session: Session, name: str) -> Tensor:
    layer = next(layer for layer in session.layers if layer.name == name)
    d_out, d_in = layer.shape
    return torch.eye(d_out * d_in, dtype=layer.weight.dtype).reshape(-1, d_out, d_in)


def _zero(direction: Tensor) -> Tensor:
    return torch.zeros_like(direction)
