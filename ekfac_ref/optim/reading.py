"""One batch, read once: what every block saw of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forms import Learned
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.model.taps import Tap, tapped
from ekfac_ref.question.batches import CHUNK_BYTES
from ekfac_ref.question.problem import Problem

Key = tuple[str, int]  # a layer's name, and the number of one of its groups


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some samples of the batch, how many are new, and the tap of every block, of some columns."""

    samples: int
    taps: dict[Key, Tap]


Chunks = Callable[[], Iterable[Chunk]]  # goes through all samples of the batch, again and again


def chunks_of(problem: Problem, layers: tuple[Layer, ...], learned: Learned) -> Chunks:
    """Open the problem, which has one batch and these layers. To be used in ``undisturbed``.

    What the batches before have shown of the model's forms is ``learned``, and not tried again.

    The taps are kept where they fit into one chunk (CHUNK_BYTES), and computed again each time
    where they do not.
    """
    session = open_session(problem, learned=learned)
    _check_same(layers, session.layers)
    chunks = _chunks(session)
    first = next(chunks)
    ((_, targets),) = problem.batches
    kept = first.samples == len(targets) and next(chunks, None) is None
    return lambda: [first] if kept else _chunks(session)


def _chunks(session: Session) -> Iterator[Chunk]:
    for samples, taps in tapped(session, CHUNK_BYTES):
        by_key = {(name, k): t for name, ts in taps.items() for k, t in enumerate(ts)}
        yield Chunk(samples, by_key)


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
