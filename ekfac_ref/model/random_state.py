"""The random numbers of torch, numpy and Python, taken and put back: the caller's never move."""

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
    """The inverse of ``take``."""
    for set_state, value in state:
        set_state(value)


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


def apart(steps: Iterator[Item], *own: torch.Generator) -> Iterator[Item]:
    """The same items, where producer and consumer each have random numbers of their own."""
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
