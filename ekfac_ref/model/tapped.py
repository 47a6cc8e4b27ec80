"""The taps of all samples, chunk by chunk, as often as one goes through them."""

from collections.abc import Iterator

from ekfac_ref.model.batched.sizes import bytes_per_sample, runs_of_columns
from ekfac_ref.model.masks import PADDING, has_padding
from ekfac_ref.model.session import Session
from ekfac_ref.model.taps import Taps, tap
from ekfac_ref.question.batches import CHUNK_BYTES


class TappedData:
    """What can be iterated again and again; if it is one chunk, it is computed but once.

    Attributes:
        session: whose data it is.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._only: list[tuple[int, Taps]] = []

    def __iter__(self) -> Iterator[tuple[int, Taps]]:
        """How many samples are new, and the taps of every layer."""
        if self._only:
            yield from self._only
            return
        found: list[tuple[int, Taps]] = []
        for number, chunk in enumerate(tapped(self.session, CHUNK_BYTES)):
            found = [] if number else [chunk]
            yield chunk
        self._only = found


def tapped(session: Session, budget: int) -> Iterator[tuple[int, Taps]]:
    """One pass: the taps of chunks that need about ``budget`` bytes, and how many samples are new.

    Where the columns of one sample need more, they come in several runs, of which only the first
    has new samples.
    """
    for batch, form in session.batches():
        if session.problem.mask is None and has_padding(batch.inputs):
            session.warn_once("padding", PADDING)
        runs = runs_of_columns(session, form, budget)
        for chunk in batch.chunks(bytes_per_sample(session, form, len(runs[0])), budget):
            for some in runs:
                own = session if len(runs) == 1 else session.of_columns(some)
                for seen, taps in tap(own, form, chunk):
                    yield (seen.size if some.start == 0 else 0), taps
