"""Something made of every batch by itself, and put together in one way or another."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from tests.kit.remade.hooked import Caught, Recipe, factor_A, factor_B, mean_square

Combine = Callable[[list[Tensor]], Tensor]


def by_batch(combine: Combine, one: Callable[[Caught], Tensor]) -> Callable[[Caught], Tensor]:
    """A factor of every batch by itself, combined."""
    return lambda s: combine([one(batch) for batch in s.batches()])


def factors_by_batch(combine: Combine) -> Recipe:
    return Recipe(A=by_batch(combine, factor_A), B=by_batch(combine, factor_B))


def everything_by_batch(combine: Combine) -> Recipe:
    def Lambda(s: Caught, R: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        return combine([mean_square(R[s.batch == number]) for number in s.batch.unique()])

    return replace(factors_by_batch(combine), Lambda=Lambda)


def mean(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0]) / len(parts)


def average(decay: float) -> Combine:
    def combine(parts: list[Tensor]) -> Tensor:
        state = parts[0]
        for part in parts[1:]:
            state = decay * state + (1 - decay) * part
        return state

    return combine
