"""Another implementation's conventions, declared and applied, so that no adapter permutes by hand.

An implementation answers ``{layer: part}``, where a part is ``Eigen``, ``Factors`` or ``Matrix`` as
it has them, or a list of parts, one per group of a grouped convolution. ``adapted`` makes this
package's operators of it: [d_out, d_in], the bias last, the unit likelihood with 1/N::

    Subject("mine", adapted(mine, Convention(eigenvalues=columns, bias=bias_first)))

Conventions are applied, not excused: what comes out must then agree to rounding. The operators'
``solve`` is this package's own, so the solve laws say nothing about an adapted implementation's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.batches import read
from ekfac_ref.conformance.trial import BadAnswer
from ekfac_ref.layers import Layer, find_layers
from ekfac_ref.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.losses import loss_scale
from ekfac_ref.operators import BlockDiagonal, Dense, EigenKronecker, Kronecker
from ekfac_ref.problem import Problem

Array = Any  # whatever torch.as_tensor takes
Layout = Callable[[Tensor, int, int], Tensor]
Bias = Callable[[Layout, int, int], Tensor]
Scale = Callable[[Problem], float]
Block = EigenKronecker | Kronecker | Dense


def rows(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """[d_out, d_in], or flat with the input running fastest."""
    if tuple(x.shape) not in {(d_out, d_in), (d_out * d_in,)}:
        raise ValueError(f"shape {list(x.shape)}, expected {[d_out, d_in]} or flat")
    return x.reshape(d_out, d_in)


def columns(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """[d_in, d_out], or flat with the output running fastest."""
    return rows(x, d_in, d_out).T


def in_columns(Q: Tensor) -> Tensor:
    """An eigenvector is a column of its matrix, as ``eigh`` returns it."""
    return Q


def in_rows(Q: Tensor) -> Tensor:
    """An eigenvector is a row of its matrix, as in the ``Vh`` of an SVD."""
    return Q.T


def bias_last(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """Where a vector holds the entries of [W | b]: the bias is the last input."""
    return vec(torch.arange(d_out * d_in), d_out, d_in)


def bias_first(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """The same for [b | W]: the bias is the first input."""
    return bias_last(vec, d_out, d_in).roll(-1, 1)


def bias_behind(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """The same for a vector with all of W first, then all of b, as ``parameters()`` lists them."""
    weights = d_out * (d_in - 1)
    behind = weights + torch.arange(d_out)
    return torch.cat([bias_last(vec, d_out, d_in - 1), behind[:, None]], 1)


def unit(problem: Problem) -> float:
    """The unit likelihood with 1/N, as in ``notation.py``."""
    return 1.0


def samples(problem: Problem) -> float:
    """N: a sum over the samples where this package has the mean."""
    return float(sum(batch.size for batch in read(problem)))


def mean_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='mean'``."""
    return _loss(likelihood, "mean")


def sum_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='sum'``."""
    return _loss(likelihood, "sum")


def of_loss(loss: Callable[[Likelihood], nn.Module]) -> Scale:
    """The scale of a torch loss module, ``of_loss(mean_loss)`` for example."""
    return lambda problem: loss_scale(loss(problem.likelihood), problem)


@dataclass(frozen=True)
class Convention:
    """How an implementation writes down what it has found. The defaults are this package's.

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


@dataclass(frozen=True, eq=False)
class Eigen:
    """An EKFAC block by eigenvectors of both sides and its corrected eigenvalues."""

    Q_B: Array
    Q_A: Array
    eigenvalues: Array


@dataclass(frozen=True, eq=False)
class Factors:
    """A KFAC block: B of the output gradients, A of the inputs."""

    B: Array
    A: Array


@dataclass(frozen=True, eq=False)
class Matrix:
    """A block as one P x P matrix."""

    matrix: Array


Part = Eigen | Factors | Matrix
Parts = Part | list[Part] | tuple[Part, ...]


def adapted(
    answer: Callable[[Problem], Mapping[str, Any]], convention: Convention | None = None
) -> Callable[[Problem], dict[str, Block | BlockDiagonal]]:
    """The same answers as operators of this package, for ``Subject``'s ekfac, kfac, exact_fisher.

    ``answer`` maps a problem to ``{layer: Parts}``.
    """
    declared = Convention() if convention is None else convention

    def ask(problem: Problem) -> dict[str, Block | BlockDiagonal]:
        # All that is needed of the problem is taken before the implementation can change it.
        layers = {layer.name: layer for layer in find_layers(problem.model, problem.layers)}
        scale, like = declared.scale(problem), next(problem.model.parameters()).detach()
        parts = answer(problem)
        if not isinstance(parts, Mapping) or set(parts) != set(layers):
            got = sorted(parts) if isinstance(parts, Mapping) else type(parts).__name__
            raise BadAnswer(f"the adapter got {got}, expected a dict of {sorted(layers)}")
        return {
            name: _Adapter(layer, declared, scale, like).block(parts[name])
            for name, layer in layers.items()
        }

    return ask


@dataclass(frozen=True, eq=False)
class _Adapter:
    """For one layer."""

    layer: Layer
    convention: Convention
    scale: float
    like: Tensor

    def block(self, parts: Any) -> Block | BlockDiagonal:
        groups = parts if isinstance(parts, (list, tuple)) else (parts,)
        if len(groups) != self.layer.groups:
            raise self._bad("answer", f"parts for {len(groups)} groups of {self.layer.groups}")
        blocks = tuple(self._one(part) for part in groups)
        return blocks[0] if len(blocks) == 1 else BlockDiagonal(blocks)

    def _one(self, part: Any) -> Block:
        d_out, d_in = self.layer.shape[0] // self.layer.groups, self.layer.shape[1]
        inputs = self._index(rows, 1, d_in)[0]
        if isinstance(part, Eigen):
            Q_B = self._vectors("Q_B", part.Q_B, d_out)
            Q_A = self._vectors("Q_A", part.Q_A, d_in)[inputs]
            return EigenKronecker(Q_B, Q_A, self._eigenvalues(part.eigenvalues, Q_B, Q_A))
        if isinstance(part, Factors):
            B = self._square("B", part.B, d_out)
            A = self._square("A", part.A, d_in)[inputs][:, inputs]
            return Kronecker(B / self.scale, A)
        if isinstance(part, Matrix):
            index = self._index(self.convention.vec, d_out, d_in).reshape(-1)
            matrix = self._square("matrix", part.matrix, d_out * d_in)[index][:, index]
            return Dense(matrix / self.scale, (d_out, d_in))
        raise self._bad("answer", f"a {type(part).__name__}, expected Eigen, Factors or Matrix")

    def _index(self, vec: Layout, d_out: int, d_in: int) -> Tensor:
        """[d_out, d_in]: where the implementation keeps each entry of [W | b]."""
        bias = bias_last if self.layer.bias is None else self.convention.bias
        return bias(vec, d_out, d_in).to(self.like.device)

    def _vectors(self, name: str, Q: Array, d: int) -> Tensor:
        Q = self.convention.eigenvectors(self._tensor(Q))
        if Q.dim() != 2 or len(Q) != d:
            raise self._bad(name, f"eigenvectors of shape {list(Q.shape)}, expected {[d, d]}")
        return Q

    def _eigenvalues(self, eigenvalues: Array, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        try:
            laid_out = self.convention.eigenvalues(
                self._tensor(eigenvalues), Q_B.shape[1], Q_A.shape[1]
            )
        except ValueError as error:
            raise self._bad("eigenvalues", f"{error}; is rows or columns declared?") from None
        return laid_out / self.scale

    def _square(self, name: str, matrix: Array, d: int) -> Tensor:
        matrix = self._tensor(matrix)
        if tuple(matrix.shape) != (d, d):
            raise self._bad(name, f"shape {list(matrix.shape)}, expected {[d, d]}")
        return matrix

    def _tensor(self, x: Array) -> Tensor:
        return torch.as_tensor(x).detach().to(self.like)

    def _bad(self, what: str, why: str) -> BadAnswer:
        has = "without a bias" if self.layer.bias is None else "with its bias among the inputs"
        return BadAnswer(
            f"layer {self.layer.name!r}, {what}: {why}; the layer is [d_out, d_in] = "
            f"{list(self.layer.shape)} {has}, in {self.layer.groups} group(s)"
        )


def _loss(likelihood: Likelihood, reduction: str) -> nn.Module:
    if isinstance(likelihood, Categorical):
        return nn.CrossEntropyLoss(ignore_index=likelihood.ignore_index, reduction=reduction)
    for kind, loss in _LOSSES.items():
        if isinstance(likelihood, kind):
            return loss(reduction=reduction)
    raise ValueError(
        f"likelihood: {likelihood!r} has no torch loss known here; write the scale as a function "
        "of the problem."
    )


_LOSSES: dict[type, Callable[..., nn.Module]] = {
    Gaussian: nn.MSELoss,
    Bernoulli: nn.BCEWithLogitsLoss,
    Poisson: nn.PoissonNLLLoss,
}
