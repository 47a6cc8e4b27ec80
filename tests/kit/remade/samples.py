"""Samples and inputs that are left out, counted twice or taken for others."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tests.kit.remade.by_batch import average, everything_by_batch, mean
from tests.kit.remade.hooked import Caught, Recipe
from tests.kit.remade.scale import times


def seeing(look: Callable[[Caught], Caught]) -> Recipe:
    return Recipe(look=look)


def filled_up(s: Caught) -> Caught:
    missing = max(0, int(s.size[0] - s.size[-1]))
    return s.of([*range(len(s)), *range(missing)])


def without_a_small_last_batch(s: Caught) -> Caught:
    return s.of(s.batch != s.batch[-1]) if s.size[-1] < s.size[0] else s


def each_once(s: Caught) -> Caught:
    rows = torch.cat([s.a.flatten(1), s.g.flatten(1)], 1).tolist()
    return s.of([n for n, row in enumerate(rows) if row not in rows[:n]])


def without_the_last(s: Caught) -> Caught:
    """It adds nothing to any sum, and is counted."""
    a, g = s.a.clone(), s.g.clone()
    a[-1], g[-1] = 0, 0
    return replace(s, a=a, g=g)


SAMPLES = {
    "mean-of-batch-means": everything_by_batch(mean),
    "mean-loss-gradients": seeing(lambda s: replace(s, g=s.g / s.size[:, None, None, None])),
    "batches-for-samples": times(lambda s: len(s) / len(s.batch.unique())),
    "nominal-batch-size": times(lambda s: len(s) / (len(s.batch.unique()) * s.size[0])),
    "small-last-batch-dropped": seeing(without_a_small_last_batch),
    "last-batch-only": everything_by_batch(lambda parts: parts[-1]),
    "running-average": everything_by_batch(average(0.95)),
    "last-batch-filled-up": seeing(filled_up),
    "duplicates-once": seeing(each_once),
    "inputs-of-next-sample": seeing(lambda s: replace(s, a=s.a.roll(-1, 0))),
    "last-sample-lost": seeing(without_the_last),
    "first-of-each-batch": seeing(
        lambda s: s.of([s.batch.tolist().index(b) for b in s.batch.unique()])
    ),
}


def with_inputs(change: Callable[[Caught], Tensor]) -> Recipe:
    """Other inputs altogether."""
    return Recipe(look=lambda s: replace(s, a=change(s)))


def other_last(s: Caught, last: float | Tensor) -> Tensor:
    """Inputs with something else in place of the last one."""
    return torch.cat([s.a[..., :-1], s.a[..., -1:] * last], -1)


def pairs_of_outputs(s: Caught) -> Caught:
    d_out = s.g.shape[-1]
    return replace(s, g=s.g * (torch.arange(d_out) < d_out // 2 * 2))


INPUTS = {
    "bias-left-out": with_inputs(lambda s: other_last(s, 0) if s.biased else s.a),
    "bias-first": with_inputs(lambda s: s.a.roll(1, -1) if s.biased else s.a),
    "one-over-positions": with_inputs(lambda s: other_last(s, 1 / s.T) if s.biased else s.a),
    "bias-of-first-layer-for-all": with_inputs(
        lambda s: other_last(s, 0) if s.biased and not s.first_is_biased else s.a
    ),
    "last-input-cut": with_inputs(lambda s: s.a if s.biased else other_last(s, 0)),
    "odd-output-left-over": seeing(pairs_of_outputs),
    "positions-reversed": with_inputs(lambda s: s.a.flip(1)),
}
