"""Mistakes of one that draws labels for itself, by which no two of its answers can be compared."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.mutants.sampler import Sampler, second_moment
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Likelihood, Poisson


def _most_likely(likelihood: Likelihood, f: Tensor, y: Tensor) -> Tensor:
    if isinstance(likelihood, Categorical):
        return torch.where(likelihood.counted(y), f.argmax(likelihood.class_axis), y)
    if isinstance(likelihood, Poisson):
        return f.exp().floor()
    return (f > 0).to(f) if isinstance(likelihood, Bernoulli) else f


class _AlikeForAll:
    """Random numbers, the same ones for every sample; but for Poisson's, which have its rates."""

    def __init__(self) -> None:
        self._numbers = np.random.default_rng(np.random.randint(2**31))

    def __getattr__(self, name: str) -> Any:
        draw = getattr(self._numbers, name)
        if name == "poisson":
            return draw
        return lambda shape: np.broadcast_to(draw((1, *shape[1:])), shape).copy()


def _alike(likelihood: Likelihood, f: Tensor, y: Tensor) -> Tensor:
    return likelihood.sample(f, y, _AlikeForAll())


_mutant = partial(
    Mutant,
    ekfac=CORRECT.ekfac,
    laws=("sampled trace", "sampled forms", "sampled factor"),
    only="labels that the subject draws for itself",
)
_RIGHT = Sampler()

DRAWN = (
    _mutant(
        name="argmax-for-a-draw",
        mistake="takes the most likely label for a drawn one (right: any, by probability)",
        story="argmax as a simplified sampling, as in Continual-Learning-Benchmark#7.",
        sampler=replace(_RIGHT, labels=_most_likely),
    ),
    _mutant(
        name="data-labels-for-drawn-ones",
        mistake="takes the data's labels for drawn ones (right: the model's distribution)",
        story="The empirical Fisher under the name of a sampled one: an option never used.",
        sampler=replace(_RIGHT, labels=lambda likelihood, f, y: y),
    ),
    _mutant(
        name="draws-summed",
        mistake="sums over the draws of a sample (right: their mean)",
        story="Columns that are stacked and squared without 1 / sqrt(draws).",
        sampler=replace(_RIGHT, times=float),
    ),
    _mutant(
        name="one-draw-for-all-samples",
        mistake="draws the labels of all samples by the same random numbers (right: independently)",
        story="Noise that is broadcast over the batch, or a generator made anew with one seed for "
        "each sample: right on average, and no nearer to it with more samples.",
        sampler=replace(_RIGHT, labels=_alike),
    ),
    _mutant(
        name="inputs-centred-beside-drawn-labels",
        mistake="takes the covariance of the inputs for A (right: the second moment)",
        story="torch.cov, or np.cov; whatever labels are drawn, A has none of them.",
        sampler=replace(_RIGHT, input_factor=lambda rows: second_moment(rows - rows.mean(0))),
        laws=("sampled kfac",),
    ),
)
