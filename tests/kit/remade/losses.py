"""Losses that are averaged, scaled, or taken at other outputs."""

from collections.abc import Callable

import torch
from torch import Tensor

import ekfac_ref as ek
from tests.kit.remade.hooked import Recipe, columns
from tests.kit.remade.labels import ALL, score, sending

Count = Callable[[ek.Likelihood, Tensor, Tensor], Tensor | float]


def losses_over(count: Count, *likelihoods: type) -> Recipe:
    """Losses divided by a count: so are scores, and roots of the Hessian by its root."""

    def made(likelihood: ek.Likelihood, fisher: ek.Exact, f: Tensor, y: Tensor) -> Tensor:
        S = columns(likelihood, fisher, f, y)
        if not isinstance(likelihood, likelihoods):
            return S
        c = torch.as_tensor(count(likelihood, f, y)).to(f).expand(len(f))
        c = c.sqrt() if isinstance(fisher, ek.Exact) else c
        return S / c.reshape(-1, *[1] * (S.dim() - 1))

    return Recipe(columns=made)


def of_other_outputs(
    change: Callable[[ek.Likelihood, Tensor], Tensor], *likelihoods: type
) -> Recipe:
    def made(likelihood: ek.Likelihood, fisher: ek.Exact, f: Tensor, y: Tensor) -> Tensor:
        other = change(likelihood, f) if isinstance(likelihood, likelihoods) else f
        return columns(likelihood, fisher, other, y)

    return Recipe(columns=made)


LOSSES = {
    "squared-error-twice": losses_over(lambda loss, f, y: 0.5, ek.Gaussian),
    "loss-averaged-over-outputs": losses_over(
        lambda loss, f, y: f[0].numel(), ek.Gaussian, ek.Bernoulli, ek.Poisson
    ),
    "times-outputs": losses_over(
        lambda loss, f, y: 1 / f[0].numel(), ek.Gaussian, ek.Bernoulli, ek.Poisson
    ),
    "loss-averaged-in-one-branch": sending(
        lambda loss, f, y: score(loss, f, y) / f[0].numel(), ALL, ek.Empirical
    ),
    "loss-averaged-over-positions": losses_over(lambda loss, f, y: y[0].numel(), ek.Categorical),
    "loss-averaged-over-labels": losses_over(
        lambda loss, f, y: loss.counted(y).reshape(len(y), -1).sum(1).clamp(min=1), ek.Categorical
    ),
    "softmax-twice": of_other_outputs(lambda loss, f: f.softmax(loss.class_axis), ek.Categorical),
    "temperature-two": of_other_outputs(lambda loss, f: f / 2, ek.Categorical, ek.Bernoulli),
}
