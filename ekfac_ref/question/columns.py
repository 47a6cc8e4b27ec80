r"""Exact, sampled, empirical: three choices of the columns S_n, hence three Fishers.

With score(f, y) = grad_f l(f, y), and S_n's columns along axis C,

- ``Exact()``: S_n S_n^T = Cov_{y ~ p(.|f_n)}[score(f_n, y)] in closed form; labels play no part.
- ``Sampled(draws, seed)``: C = draws, s_nc = score(f_n, y_nc) / sqrt(draws), y_nc ~ p(.|f_n).
- ``Empirical()``: C = 1, s_n = score(f_n, y_n) at the data's own label.

No factor of N. Sources: Martens 2014 (1412.1193) for the first two, Kunstner et al. 2019
(1905.12558) on why the third is another thing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.random import Generator, Philox
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson


@dataclass(frozen=True)
class Exact:
    """The expectation over the model's own labels, in closed form.

    One column for each output of a sample, and as many backward passes: of a language model, for
    each word of the vocabulary at each position.
    """

    def columns(
        self,
        likelihood: Likelihood,
        f: Float[Tensor, "N *out"],
        y: Shaped[Tensor, "N *labels"],
        first: int,
    ) -> Float[Tensor, "N C *out"]:
        """S_n for a run of samples whose first has number ``first`` in the data."""
        return likelihood.square_root(f, y)

    def some_columns(
        self,
        likelihood: Gaussian | Categorical | Bernoulli | Poisson,
        f: Float[Tensor, "N *out"],
        y: Shaped[Tensor, "N *labels"],
        some: range,
    ) -> Float[Tensor, "N C *out"]:
        """These columns of S_n alone, by their numbers."""
        return likelihood.square_root(f, y, some)


@dataclass(frozen=True)
class Sampled:
    """Labels drawn from the model.

    The label is a function of (seed, number of the sample in the data, draw) and of the model's
    distribution: passes, batch splits and resumed runs see the same labels, and no global random
    state moves.

    Attributes:
        draws: labels per sample, C.
        seed: a non-negative integer.
        before: how many samples come before the first of these, where they are a part of the data.
    """

    draws: int = 1
    seed: int = 0
    before: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or self.seed < 0 or self.before < 0:
            raise ProblemError(
                f"fisher: Sampled(draws={self.draws}, seed={self.seed}, before={self.before}) "
                "needs draws >= 1, seed >= 0 and before >= 0; give the number of labels to draw "
                "for each sample."
            )

    def columns(
        self,
        likelihood: Likelihood,
        f: Float[Tensor, "N *out"],
        y: Shaped[Tensor, "N *labels"],
        first: int,
    ) -> Float[Tensor, "N C *out"]:
        """S_n for a run of samples whose first has number ``first`` in the data."""
        scores = [likelihood.score(f, self._labels(likelihood, f, y, first, c)) for c in self._all]
        return torch.stack(scores, 1) / self.draws**0.5

    @property
    def _all(self) -> range:
        return range(self.draws)

    def _labels(
        self, likelihood: Likelihood, f: Tensor, y: Tensor, first: int, draw: int
    ) -> Tensor:
        numbers = range(first + self.before, first + self.before + len(f))
        return likelihood.sample(f, y, _OfSamples(self.seed, draw, numbers))


class _OfSamples:
    """Random numbers of which every sample's are its own, along axis 0.

    A counter-based generator is a pure function of its key and counter, so one is enough: it is
    set to the beginning of each sample's.
    """

    def __init__(self, key: int, draw: int, numbers: range) -> None:
        self._bits = Philox(key=key, counter=[0, 0, draw, 0])
        self._numbers = numbers

    def random(self, shape: tuple[int, ...]) -> Any:
        return np.stack([one.random(shape[1:]) for one in self._generators()])

    def standard_normal(self, shape: tuple[int, ...]) -> Any:
        return np.stack([one.standard_normal(shape[1:]) for one in self._generators()])

    def poisson(self, rates: Any) -> Any:
        each = zip(self._generators(), rates, strict=True)
        return np.stack([one.poisson(own) for one, own in each])

    def _generators(self) -> Iterator[Generator]:
        generator, beginning = Generator(self._bits), self._bits.state
        for number in self._numbers:
            beginning["state"]["counter"][3] = number
            self._bits.state = beginning
            yield generator


@dataclass(frozen=True)
class Empirical:
    """One column, the gradient at the data's own label."""

    def columns(
        self,
        likelihood: Likelihood,
        f: Float[Tensor, "N *out"],
        y: Shaped[Tensor, "N *labels"],
        first: int,
    ) -> Float[Tensor, "N C *out"]:
        """S_n for a run of samples whose first has number ``first`` in the data."""
        return likelihood.score(f, y)[:, None]


Fisher = Exact | Sampled | Empirical
