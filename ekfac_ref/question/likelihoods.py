r"""A loss is a negative log-likelihood times a scalar; here is its Fisher in output space.

Each class is the *unit* negative log-likelihood l(f, y) of one sample, summed over everything but
the sample axis:

===========  ===========================  ===================  ============================
likelihood   l(f, y)                      ``score`` = grad l   ``square_root``
===========  ===========================  ===================  ============================
Gaussian     1/2 ||f - y||^2              f - y                I
Categorical  -sum_t log softmax(f_t)[y]   p_t - onehot(y_t)    diag(sqrt p) - p sqrt(p)^T
Bernoulli    sum_k softplus(f) - y_k f_k  sigmoid(f) - y       diag sqrt(p (1 - p))
Poisson      sum_k exp(f_k) - y_k f_k     exp(f) - y           diag exp(f / 2)
===========  ===========================  ===================  ============================

``square_root`` is any S with S S^T = Cov_{y ~ p(.|f)}[score], its columns along the axis C. It
depends on y in one way only: a label that is ignored contributes no columns.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ekfac_ref.errors import ProblemError


@runtime_checkable
class Numbers(Protocol):
    """Random numbers for N samples: a ``numpy.random.Generator``, or one for each sample."""

    def random(self, shape: tuple[int, ...]) -> Any:
        """Uniform ones, in [0, 1)."""

    def standard_normal(self, shape: tuple[int, ...]) -> Any:
        """Of mean 0 and variance 1."""

    def poisson(self, rates: Any) -> Any:
        """One count for each rate."""


@runtime_checkable
class Likelihood(Protocol):
    """What the rest of the package asks of a likelihood."""

    def check(self, f: Tensor, y: Tensor) -> None:
        """Raise a ProblemError where y cannot be the targets of the outputs f."""

    def score(
        self, f: Float[Tensor, "N *out"], y: Shaped[Tensor, "N *labels"]
    ) -> Float[Tensor, "N *out"]:
        """grad_f l(f_n, y_n), no factor of N."""
        ...

    def square_root(
        self, f: Float[Tensor, "N *out"], y: Shaped[Tensor, "N *labels"]
    ) -> Float[Tensor, "N C *out"]:
        """Columns s_nc with sum_c s_nc s_nc^T = Cov_{y ~ p(.|f_n)}[score], no factor of N.

        Those below have one for each output, and return any of them alone, ``columns``.
        """
        ...

    def sample(
        self, f: Float[Tensor, "N *out"], y: Shaped[Tensor, "N *labels"], rng: Numbers
    ) -> Shaped[Tensor, "N *labels"]:
        """One draw y_n ~ p(.|f_n) for every sample; an ignored label stays ignored."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """l = 1/2 ||f - y||^2: unit variance, the mean is the output."""

    def check(self, f: Tensor, y: Tensor) -> None:
        _check_like_outputs(self, f, y)

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        return f - y

    def square_root(self, f: Tensor, y: Tensor, columns: range | None = None) -> Tensor:
        return _diagonal_columns(torch.ones_like(f), columns)

    def sample(self, f: Tensor, y: Tensor, rng: Numbers) -> Tensor:
        return f + torch.as_tensor(rng.standard_normal(tuple(f.shape))).to(f)


@dataclass(frozen=True)
class Bernoulli:
    """l = binary cross-entropy with logits. Soft labels y in [0, 1] are exact: l is linear in y."""

    def check(self, f: Tensor, y: Tensor) -> None:
        _check_like_outputs(self, f, y)
        if bool(((y < 0) | (y > 1)).any()):
            raise ProblemError(
                f"targets: Bernoulli labels lie in [0, 1], but these reach from {y.min():g} to "
                f"{y.max():g}; pass probabilities or 0/1 labels, not logits or +-1."
            )

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(f) - y

    def square_root(self, f: Tensor, y: Tensor, columns: range | None = None) -> Tensor:
        # p (1 - p) as a product of two sigmoids: 1 - p would cancel for large f.
        return _diagonal_columns((torch.sigmoid(f) * torch.sigmoid(-f)).sqrt(), columns)

    def sample(self, f: Tensor, y: Tensor, rng: Numbers) -> Tensor:
        uniform = torch.as_tensor(rng.random(tuple(f.shape))).to(f)
        return (uniform < torch.sigmoid(f)).to(f)


@dataclass(frozen=True)
class Poisson:
    """l = exp(f) - y f: the output is the log of the rate (the constant log y! is left out)."""

    def check(self, f: Tensor, y: Tensor) -> None:
        _check_like_outputs(self, f, y)
        if bool((y < 0).any()):
            raise ProblemError(
                f"targets: Poisson counts are not negative, but the smallest is {y.min():g}; "
                "pass the counts themselves, not their logarithm."
            )

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        return torch.exp(f) - y

    def square_root(self, f: Tensor, y: Tensor, columns: range | None = None) -> Tensor:
        return _diagonal_columns(torch.exp(f / 2), columns)

    def sample(self, f: Tensor, y: Tensor, rng: Numbers) -> Tensor:
        return torch.as_tensor(rng.poisson(torch.exp(f).double().cpu().numpy())).to(f)


@dataclass(frozen=True)
class Categorical:
    """l = cross-entropy over the class axis, summed over the positions of one sample.

    Attributes:
        class_axis: axis of the *batched* output that holds the classes: -1 for ``[N, *positions,
            classes]``, 1 for torch's own ``[N, classes, *positions]``. Both are right for
            ``[N, classes]``.
        ignore_index: this label drops its loss term, hence its columns; never its position.
    """

    class_axis: int = -1
    ignore_index: int = -100

    def check(self, f: Tensor, y: Tensor) -> None:
        if f.dim() < 2 or not -f.dim() <= self.class_axis < f.dim() or self.class_axis == 0:
            raise ProblemError(
                f"likelihood: Categorical(class_axis={self.class_axis}) needs an output with axes "
                f"for samples and for classes, but the model returned shape {list(f.shape)}; give "
                "class_axis=-1 for [N, ..., classes] and class_axis=1 for [N, classes, ...]."
            )
        classes = f.shape[self.class_axis]
        expected = list(f.movedim(self.class_axis, -1).shape[:-1])
        check_labels(y)
        if list(y.shape) != expected:
            raise ProblemError(
                f"targets: shape {list(y.shape)}, but outputs of shape {list(f.shape)} with "
                f"class_axis={self.class_axis} call for labels of shape {expected}; reshape the "
                "targets, or set class_axis (-1: classes last, 1: torch's layout)."
            )
        wrong = self.counted(y) & ((y < 0) | (y.long() >= classes))
        if bool(wrong.any()):
            raise ProblemError(
                f"targets: label {y[wrong][0].item()} is out of range: the output has {classes} "
                f"classes, 0 to {classes - 1}; only ignore_index={self.ignore_index} may lie "
                "outside. Correct the label or set Categorical(ignore_index=...)."
            )

    def counted(self, y: Tensor) -> Bool[Tensor, "*labels"]:
        """Which labels are not ignored. As 64-bit integers: in 8 bits, -100 is 156."""
        return y.long() != self.ignore_index

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        valid = self.counted(y)
        p = torch.softmax(f.movedim(self.class_axis, -1), -1)
        onehot = torch.nn.functional.one_hot(y.where(valid, 0).long(), p.shape[-1])
        return ((p - onehot) * valid[..., None]).movedim(-1, self.class_axis)

    def square_root(self, f: Tensor, y: Tensor, columns: range | None = None) -> Tensor:
        logits = f.movedim(self.class_axis, -1)
        p = torch.softmax(logits.flatten(1, -2) if logits.dim() > 2 else logits[:, None], -1)
        valid = self.counted(y).reshape(p.shape[:2])
        # The column of class k at position t: sqrt(p_k) (e_k - p) there, and nothing elsewhere.
        c = _all_or(columns, p[0].numel(), p.device)
        t, k = c // p.shape[2], c % p.shape[2]
        at_t = torch.nn.functional.one_hot(k, p.shape[2]).to(p) - p[:, t]
        at_t = p[:, t, k].sqrt()[..., None] * at_t * valid[:, t, None]
        S = p.new_zeros(len(p), len(c), *p.shape[1:])
        S[:, torch.arange(len(c), device=c.device), t] = at_t  # labels elsewhere are independent
        S = S.reshape(len(f), -1, *logits.shape[1:])
        return S.movedim(-1, self.class_axis if self.class_axis < 0 else self.class_axis + 1)

    def sample(self, f: Tensor, y: Tensor, rng: Numbers) -> Tensor:
        p = torch.softmax(f.movedim(self.class_axis, -1).double(), -1)
        uniform = torch.as_tensor(rng.random(tuple(p.shape[:-1]))).to(p)
        drawn = (uniform[..., None] > p.cumsum(-1)).sum(-1).clamp(max=p.shape[-1] - 1)
        return torch.where(self.counted(y), drawn.to(y), y)


BY_COLUMN = (Gaussian, Categorical, Bernoulli, Poisson)  # square_root takes ``columns``


def _all_or(columns: range | None, C: int, device: torch.device) -> Int[Tensor, " columns"]:
    chosen = range(C) if columns is None else columns
    return torch.arange(chosen.start, chosen.stop, device=device)


def check_labels(y: Tensor) -> None:
    """Raise a ProblemError where y cannot be class labels, whatever the outputs."""
    if y.dtype.is_floating_point or y.dtype == torch.bool or y.dtype.is_complex:
        raise ProblemError(
            f"targets: Categorical takes integer class labels, not {y.dtype}; soft targets "
            "(class probabilities) are not supported, pass y.argmax(...) or labels."
        )


def _diagonal_columns(
    root: Float[Tensor, "N *out"], columns: range | None
) -> Float[Tensor, "N C *out"]:
    """One column per output: root_k times the k-th unit vector."""
    flat = root.reshape(len(root), -1)
    k = _all_or(columns, flat.shape[1], root.device)
    S = root.new_zeros(len(root), len(k), flat.shape[1])
    S[:, torch.arange(len(k), device=k.device), k] = flat[:, k]
    return S.reshape(len(root), len(k), *root.shape[1:])


def _check_like_outputs(likelihood: Likelihood, f: Tensor, y: Tensor) -> None:
    name = type(likelihood).__name__
    if y.shape != f.shape:
        raise ProblemError(
            f"targets: shape {list(y.shape)}, but {name} compares them with outputs of shape "
            f"{list(f.shape)}; give the targets exactly that shape (nothing is broadcast)."
        )
    if y.dtype != f.dtype:
        raise ProblemError(
            f"targets: dtype {y.dtype}, but the model returned {f.dtype}; {name} needs both "
            f"alike, convert the targets with y.to({f.dtype})."
        )
