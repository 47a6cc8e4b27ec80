"""Numbers in the wrong place."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.kit.remade.hooked import Caught, Recipe, gradients


def times(factor: Callable[[Caught], float]) -> Recipe:
    """Lambda times a number."""
    return Recipe(then=lambda Lambda, s: Lambda * factor(s))


def gradients_times(factor: Callable[[Caught], Tensor | float]) -> Recipe:
    """Every sample's gradient times a number, in Lambda alone."""

    def G(s: Caught) -> Tensor:
        numbers = torch.as_tensor(factor(s), dtype=s.a.dtype).expand(len(s))
        return gradients(s) * numbers[:, None, None, None]

    return Recipe(G=G)


SCALE = {
    "sum-over-samples": times(len),
    "divided-by-n-twice": times(lambda s: 1 / len(s)),
    "unbiased": times(lambda s: len(s) / max(len(s) - 1, 1)),
    "mean-over-columns": times(lambda s: 1 / s.C),
    "mean-over-entries": gradients_times(lambda s: 1 / s.C),
    "mean-over-positions": times(lambda s: 1 / s.T),
    "gradient-averaged-over-positions": gradients_times(lambda s: 1 / s.T),
    "twice": times(lambda s: 2),
    "scaled-by-the-first-batch": gradients_times(lambda s: s.size[0] / s.size),
    "times-batch-size": gradients_times(lambda s: s.size),
    "over-parameters": times(lambda s: 1 / (s.a.shape[-1] * s.g.shape[-1])),
}
