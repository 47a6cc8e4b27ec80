"""The caller's random numbers and gradient mode, which stay as they were."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch

Item = TypeVar("Item")
RandomState = list[tuple[Callable[[Any], Any], Any]]


def take(*own: torch.Generator) -> RandomState:
    """The state of every global generator and of the given ones, each with its setter."""
    state: RandomState = [
        (torch.set_rng_state, torch.get_rng_state()),
        (np.random.set_state, np.random.get_state()),
        (random.setstate, random.getstate()),
    ]
    if torch.cuda.is_initialized():
        state.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    return state + [(generator.set_state, generator.get_state()) for generator in own]


def put_back(state: RandomState) -> None:
    """Set every generator back to the state that ``take`` found."""
    for set_state, value in state:
        set_state(value)


def has_drawn(state: RandomState) -> bool:
    """Whether torch or numpy have drawn from a global generator since ``take`` found this.

    Python's is left out: who checks types by a few items of a list draws which ones.
    """
    pairs = zip(state, take(), strict=False)  # one more, where CUDA was begun with
    of_models = ((old, new) for (setter, old), (_, new) in pairs if setter is not random.setstate)
    return any(not _same(old, new) for old, new in of_models)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool(np.all(one == other))


def generators(batches: Any) -> list[torch.Generator]:
    """Those that a DataLoader or its samplers own."""
    batch_sampler = getattr(batches, "batch_sampler", None)
    samplers = (getattr(batches, "sampler", None), getattr(batch_sampler, "sampler", None))
    owners = (batches, batch_sampler, *samplers)
    found = (getattr(owner, "generator", None) for owner in owners)
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


@contextmanager
def untouched(*own: torch.Generator) -> Iterator[None]:
    """Whatever is drawn inside, nothing of it is seen outside."""
    before = take(*own)
    try:
        yield
    finally:
        put_back(before)


@contextmanager
def undisturbed(batches: Any = ()) -> Iterator[None]:
    """Compute without gradients, whatever mode the caller is in, and move no random numbers.

    ``batches`` may own generators, as a DataLoader does; they are put back, too.
    """
    with torch.inference_mode(False), torch.no_grad(), untouched(*generators(batches)):
        yield


def interleaved(steps: Iterator[Item], *own: torch.Generator) -> Iterator[Item]:
    """Yield the items of ``steps``, so that producer and consumer each have random numbers of their
    own.
    """
    inside = take(*own)
    while True:
        outside = take(*own)
        put_back(inside)
        try:
            item = next(steps, None)
        finally:
            inside = take(*own)
            put_back(outside)
        if item is None:
            return
        yield item
