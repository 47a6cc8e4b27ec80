"""The random numbers of torch, numpy and Python, taken and put back: the caller's never move."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

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


@contextmanager
def untouched() -> Iterator[None]:
    """Whatever is drawn inside, nothing of it is seen outside."""
    before = take()
    try:
        yield
    finally:
        put_back(before)
