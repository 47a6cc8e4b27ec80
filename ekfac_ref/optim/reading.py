"""One batch, read once: what every block saw of it."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.copies.modes import EVAL
from ekfac_ref.model.forms import Learned
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import bare_among
from ekfac_ref.model.session import open_session
from ekfac_ref.model.tapped import TappedData
from ekfac_ref.model.taps import Tap, Taps
from ekfac_ref.question.problem import Problem

# Whoever asks, the model half speaks of a Problem; an optimizer has these arguments, too.
_ADVICE = re.compile(r"\b(Problem|E?KFACPreconditioner)\((?=\w+=)")
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
    """
    session = open_session(problem, learned=learned, modes=EVAL, bare=bare_among(layers))
    _check_same(layers, session.layers)
    data = TappedData(session)
    return lambda: (Chunk(samples, _by_key(taps)) for samples, taps in data)


@contextmanager
def in_words_of(asked: object) -> Iterator[None]:
    """Turn a ProblemError's advice Problem(layers=...) into EKFAC(layers=...), if that asked."""
    try:
        yield
    except ProblemError as error:
        said = _ADVICE.sub(f"{type(asked).__name__}(", str(error))
        if said == str(error):
            raise
        raise ProblemError(said).with_traceback(error.__traceback__) from error.__cause__


def _by_key(taps: Taps) -> dict[Key, Tap]:
    return {(name, k): tap for name, by_group in taps.items() for k, tap in enumerate(by_group)}


def _check_same(at_construction: tuple[Layer, ...], now: tuple[Layer, ...]) -> None:
    before, after = (
        {layer.name: (layer.parameters, layer.shape, layer.groups) for layer in layers}
        for layers in (at_construction, now)
    )
    if before != after:
        raise ProblemError(
            f"model: its layers, parameters, shapes and groups are now {after}, but were {before} "
            "at construction; make a new optimizer or preconditioner for the model as it is now."
        )
