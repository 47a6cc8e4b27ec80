"""One batch, read once: what every block saw of it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.random_state import untouched
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.model.tapped import tapped
from ekfac_ref.model.taps import Tap
from ekfac_ref.question.problem import Problem

CHUNK_BYTES = 256 * 2**20

Key = tuple[str, int]  # a layer's name, and the number of one of its groups


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some samples of the batch, and the tap of every block."""

    samples: int
    taps: dict[Key, Tap]


Chunks = Callable[[], Iterable[Chunk]]  # goes through all samples of the batch, again and again


def read(problem: Problem, layers: tuple[Layer, ...]) -> Chunks:
    """Open the problem, which has one batch and these layers. To be used in ``undisturbed``.

    The taps are kept where they fit into one chunk (CHUNK_BYTES), and computed again each time
    where they do not.
    """
    session = open_session(problem)
    _check_same(layers, session.layers)
    first = next(_chunks(session))
    ((_, targets),) = problem.batches
    kept = first.samples == len(targets)
    return lambda: [first] if kept else _chunks(session)


def _chunks(session: Session) -> Iterator[Chunk]:
    for batch, taps in tapped(session, CHUNK_BYTES):
        by_key = {(name, k): t for name, ts in taps.items() for k, t in enumerate(ts)}
        yield Chunk(batch.size, by_key)


def _check_same(at_construction: tuple[Layer, ...], now: tuple[Layer, ...]) -> None:
    before, after = (
        {layer.name: (layer.parameters, layer.shape, layer.groups) for layer in layers}
        for layers in (at_construction, now)
    )
    if before != after:
        raise ProblemError(
            f"model: its layers, parameters, shapes and groups are now {after}, but were {before} "
            "at construction; make a new preconditioner after changing the model."
        )


@contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever gradient mode the caller is in, and leaving the caller's random numbers alone."""
    with torch.inference_mode(False), torch.no_grad(), untouched():
        yield
