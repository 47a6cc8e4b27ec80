"""How an implementation writes down what it has found: layouts, the place of the bias, the scale.

Each is a function, to be declared in a ``Convention``; any other of its kind will do as well.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ekfac_ref.losses import loss_scale
from ekfac_ref.question.batches import read
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem

Layout = Callable[[Tensor, int, int], Tensor]
Bias = Callable[[int], list[list[int]]]
Scale = Callable[[Problem], float]


def rows(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """x [d_out, d_in], or flat [d_out d_in] with the input running fastest, as [d_out, d_in]."""
    if tuple(x.shape) not in {(d_out, d_in), (d_out * d_in,)}:
        raise ValueError(f"shape {list(x.shape)}, expected {[d_out, d_in]} or flat")
    return x.reshape(d_out, d_in)


def columns(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """x [d_in, d_out], or flat [d_in d_out] with the output running fastest, as [d_out, d_in]."""
    return rows(x, d_in, d_out).T


def in_columns(Q: Tensor) -> Tensor:
    """An eigenvector is a column of its matrix, as ``eigh`` returns it."""
    return Q


def in_rows(Q: Tensor) -> Tensor:
    """An eigenvector is a row of its matrix, as in the ``Vh`` of an SVD."""
    return Q.T


def bias_last(d_in: int) -> list[list[int]]:
    """The vector is vec([W | b]): the bias is the last of d_in inputs.

    A place of the bias is told as the columns of [W | b], d_in with the bias, in the order in which
    the implementation has them; several lists where it stacks a vec of each.
    """
    return [[*range(d_in)]]


def bias_first(d_in: int) -> list[list[int]]:
    """The vector is vec([b | W]): the bias is the first of d_in inputs."""
    return [[d_in - 1, *range(d_in - 1)]]


def bias_behind(d_in: int) -> list[list[int]]:
    """The vector is vec(W) and then b, as ``parameters()`` lists them."""
    return [[*range(d_in - 1)], [d_in - 1]]


def positions(bias: Bias, vec: Layout, d_out: int, d_in: int) -> Tensor:
    """[d_out, d_in]: entry (o, i) of [W | b] is at ``positions[o, i]`` of the vector."""
    found, start = torch.empty(d_out, d_in, dtype=torch.long), 0
    for piece in bias(d_in):
        stop = start + d_out * len(piece)
        found[:, piece] = vec(torch.arange(start, stop), d_out, len(piece))
        start = stop
    return found


def unit(problem: Problem) -> float:
    """1: the matrices are the unit likelihood's, averaged over the N samples (``notation.py``)."""
    return 1.0


def samples(problem: Problem) -> float:
    """N: the matrices are summed over the samples where this package's are averaged."""
    return float(sum(batch.size for batch in read(problem)))


def mean_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='mean'``."""
    return _loss(likelihood, "mean")


def sum_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='sum'``."""
    return _loss(likelihood, "sum")


def of_loss(loss: Callable[[Likelihood], nn.Module]) -> Scale:
    """The scale of matrices made from a torch loss: ``of_loss(mean_loss)`` for example."""
    return lambda problem: loss_scale(loss(problem.likelihood), problem)


def _loss(likelihood: Likelihood, reduction: str) -> nn.Module:
    if isinstance(likelihood, Categorical):
        return nn.CrossEntropyLoss(ignore_index=likelihood.ignore_index, reduction=reduction)
    losses = {Gaussian: nn.MSELoss, Bernoulli: nn.BCEWithLogitsLoss, Poisson: nn.PoissonNLLLoss}
    for kind, loss in losses.items():
        if isinstance(likelihood, kind):
            return loss(reduction=reduction)
    raise ValueError(
        f"likelihood: {likelihood!r} has no torch loss known here; write the scale as a function "
        "of the problem."
    )


@dataclass(frozen=True)
class Convention:
    """How an implementation writes down its matrices, declared by whoever adapts it.

    The defaults are this package's. Shapes are those of a group, d_in with the bias.

    Attributes:
        eigenvectors: ``in_columns`` or ``in_rows`` of Q_B and Q_A. Their order is free, as long as
            the eigenvalues are in the same one.
        eigenvalues: ``rows`` or ``columns``: [d_out, d_in] or [d_in, d_out], as a matrix or flat.
        vec: ``rows`` or ``columns``: which entry of [W | b] a row of a ``Matrix`` stands for.
        bias: ``bias_last``, ``bias_first`` or ``bias_behind``. Of no concern to layers without one.
        scale: a function of the problem: the implementation's matrices over this package's, by
            which they are divided. ``unit``, ``samples``, ``of_loss(mean_loss)`` or one's own.
    """

    eigenvectors: Callable[[Tensor], Tensor] = in_columns
    eigenvalues: Layout = rows
    vec: Layout = rows
    bias: Bias = bias_last
    scale: Scale = unit
