"""How an implementation writes down what it has found: orders, the bias, the scale.

The values that a ``Convention`` is made of are functions; users pass them and need not call them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ekfac_ref.losses import likelihood_of, loss_scale
from ekfac_ref.question.batches import read
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem

# (x, d_out, d_in) to [d_out, d_in].
Layout = Callable[[Tensor, int, int], Tensor]
# (layout of vec, d_out, d_in) to an index [d_out, d_in]: entry (o, i) of [W | b] stands at place
# index[o, i] of the implementation's vec. The bias is the last column of the index, as in [W | b].
Bias = Callable[[Layout, int, int], Tensor]
# Of a problem: the implementation's numbers over this package's.
Scale = Callable[[Problem], float]


def rows(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """x is [d_out, d_in], or flat with the input running fastest."""
    if tuple(x.shape) not in {(d_out, d_in), (d_out * d_in,)}:
        raise ValueError(f"shape {list(x.shape)}, expected {[d_out, d_in]} or flat")
    return x.reshape(d_out, d_in)


def columns(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """x is [d_in, d_out], or flat with the output running fastest."""
    return rows(x, d_in, d_out).T


def in_columns(Q: Tensor) -> Tensor:
    """An eigenvector is a column of its matrix, as ``eigh`` returns it."""
    return Q


def in_rows(Q: Tensor) -> Tensor:
    """An eigenvector is a row of its matrix, as in the ``Vh`` of an SVD."""
    return Q.T


def bias_last(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """Index into a vec of [W | b]: the bias is the last input."""
    return vec(torch.arange(d_out * d_in), d_out, d_in)


def bias_first(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """Index into a vec of [b | W]: the bias is the first input."""
    return bias_last(vec, d_out, d_in).roll(-1, 1)


def bias_behind(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """Index into a vec with all of W first, then all of b, as ``parameters()`` lists them."""
    behind = d_out * (d_in - 1) + torch.arange(d_out)
    return torch.cat([bias_last(vec, d_out, d_in - 1), behind[:, None]], 1)


def unit(problem: Problem) -> float:
    """1: the unit likelihood with 1/N, as in ``notation.py``."""
    return 1.0


def samples(problem: Problem) -> float:
    """N: a sum over the samples where this package has the mean."""
    return float(sum(batch.size for batch in read(problem)))


def averaged(scale: Scale) -> Scale:
    """Of a mean over samples of what has that scale as a sum over them.

    ``averaged(of_loss(sum_loss))`` is that of per-sample gradients of a loss with
    ``reduction='sum'``, squared and averaged over N.
    """
    return lambda problem: scale(problem) / samples(problem)


def mean_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='mean'``; classes are where those say."""
    return _loss(likelihood, "mean")


def sum_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='sum'``; classes are where those say."""
    return _loss(likelihood, "sum")


def unit_loss(likelihood: Likelihood) -> Callable[[Tensor, Tensor], Tensor]:
    """(outputs, targets) to (1/N) sum_n l_n, l_n the unit likelihood's negative logarithm.

    What an optimizer on trial descends: every sample counts the same, whatever it has of positions
    and labels, and no factor of 2 or 1/K is left of torch's own losses.
    """
    loss = sum_loss(likelihood)
    half = 2.0 if isinstance(likelihood, Gaussian) else 1.0
    return lambda outputs, targets: loss(outputs, targets) / (half * len(targets))


def of_loss(loss: Callable[[Likelihood], nn.Module]) -> Scale:
    """The scale of a torch loss module, ``of_loss(mean_loss)`` for example."""
    return lambda problem: loss_scale(loss(problem.likelihood), problem)


def _loss(likelihood: Likelihood, reduction: str) -> nn.Module:
    if isinstance(likelihood, Categorical):
        return _CrossEntropyLoss(likelihood, reduction)
    for kind, loss in _LOSSES.items():
        if isinstance(likelihood, kind):
            return loss(reduction=reduction)
    raise ValueError(
        f"likelihood: {likelihood!r} has no torch loss known here; write the scale as a function "
        "of the problem."
    )


class _CrossEntropyLoss(nn.CrossEntropyLoss):
    """With the classes on the axis that the likelihood has them on; torch's own is always 1.

    Of [N, T, C] with T = C torch's would be another loss, and say nothing.
    """

    def __init__(self, likelihood: Categorical, reduction: str) -> None:
        super().__init__(ignore_index=likelihood.ignore_index, reduction=reduction)
        self.likelihood = likelihood

    def forward(self, f: Tensor, y: Tensor) -> Tensor:
        """The loss of outputs f and class numbers y."""
        return super().forward(f.movedim(self.likelihood.class_axis, 1), y)


@likelihood_of.register
def _(loss: _CrossEntropyLoss) -> Likelihood:
    return loss.likelihood


_LOSSES: dict[type, Callable[..., nn.Module]] = {
    Gaussian: nn.MSELoss,
    Bernoulli: nn.BCEWithLogitsLoss,
    Poisson: nn.PoissonNLLLoss,
}

# As they are written in a Convention, of those that are not 1.
SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "samples": samples,
        "of_loss(mean_loss)": of_loss(mean_loss),
        "of_loss(sum_loss)": of_loss(sum_loss),
        "averaged(of_loss(sum_loss))": averaged(of_loss(sum_loss)),
    }
)


@dataclass(frozen=True)
class Convention:
    """What is declared of an implementation. The defaults are this package's.

    Attributes:
        eigenvectors: ``in_columns`` or ``in_rows`` of Q_B and Q_A. Their order is free, as long as
            the eigenvalues are in the same one.
        eigenvalues: ``rows`` or ``columns``, as a matrix or flat.
        vec: ``rows`` or ``columns``: which entry of [W | b] a row of a ``Matrix`` stands for.
        bias: ``bias_last``, ``bias_first`` or ``bias_behind``. Of no concern to layers without one.
        scale: a function of the problem: its numbers over this package's. It is divided out.
    """

    eigenvectors: Callable[[Tensor], Tensor] = in_columns
    eigenvalues: Layout = rows
    vec: Layout = rows
    bias: Bias = bias_last
    scale: Scale = unit
