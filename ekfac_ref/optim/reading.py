"""One batch, read once: what every block saw of it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ekfac_ref.layers import Layer
from ekfac_ref.problem import Problem
from ekfac_ref.random_state import untouched
from ekfac_ref.session import Session, open_session
from ekfac_ref.tapped import tapped
from ekfac_ref.taps import Tap

CHUNK_BYTES = 256 * 2**20

Key = tuple[str, int]  # a layer's name, and the number of one of its groups


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some samples of the batch, and the tap of every block."""

    samples: int
    taps: dict[Key, Tap]


@dataclass(frozen=True, eq=False)
class Reading:
    """A batch that can be gone through again and again.

    Attributes:
        layers: that the model had.
        chunks: a function that goes through all samples. They are kept where they fit into one
            chunk (CHUNK_BYTES), and computed again where they do not.
    """

    layers: tuple[Layer, ...]
    chunks: Callable[[], Iterable[Chunk]]


def read(problem: Problem) -> Reading:
    """Open the problem, which has one batch. To be used within ``undisturbed``."""
    session = open_session(problem)
    first = next(_chunks(session))
    ((_, targets),) = problem.batches
    kept = first.samples == len(targets)
    return Reading(session.layers, lambda: [first] if kept else _chunks(session))


def _chunks(session: Session) -> Iterator[Chunk]:
    for batch, taps in tapped(session, CHUNK_BYTES):
        by_key = {(name, k): t for name, ts in taps.items() for k, t in enumerate(ts)}
        yield Chunk(batch.size, by_key)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever gradient mode the caller is in, and leaving the caller's random numbers alone."""
    with torch.inference_mode(False), torch.no_grad(), untouched():
        yield
