"""The taps of all samples, chunk by chunk, as often as one goes through them."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

from ekfac_ref.model.forms import Form
from ekfac_ref.model.masks import PADDING, has_padding
from ekfac_ref.model.session import Session
from ekfac_ref.model.sizes import bytes_per_sample, runs_of_columns
from ekfac_ref.model.taps import Taps, tap
from ekfac_ref.question.batches import CHUNK_BYTES, Batch

TappedChunks = Iterator[tuple[int, Taps]]  # how many samples are new, and the taps of every layer


class TappedData:
    """What can be iterated again and again; if it is one chunk, it is computed but once.

    Nothing here keeps a chunk while the next one is computed; nor should who takes them.

    Attributes:
        session: whose data it is.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._only: list[tuple[int, Taps]] = []

    def __iter__(self) -> TappedChunks:
        """How many samples are new, and the taps of every layer."""
        if not self._only:
            parts = _parts(self.session, CHUNK_BYTES)
            several = [part for _, part in zip(range(2), parts, strict=False)]
            if len(several) > 1:
                yield from chain.from_iterable(part() for part in chain(several, parts))
                return
            self._only = list(several[0]())
        yield from self._only


def tapped(session: Session, budget: int) -> TappedChunks:
    """One pass: the taps of chunks that need about ``budget`` bytes, and how many samples are new.

    Where the columns of one sample need more, they come in several runs, of which only the first
    has new samples.
    """
    return chain.from_iterable(part() for part in _parts(session, budget))


def _parts(session: Session, budget: int) -> Iterator[Callable[[], TappedChunks]]:
    """Each of what ``tapped`` returns, to be computed when its turn comes."""
    for batch, form in session.batches():
        positions = max((x.numel() for uses in form.axes.values() for x in uses), default=0)
        if session.problem.mask is None and positions > 1 and has_padding(batch.inputs):
            session.notices.give("padding", PADDING)
        each = bytes_per_sample(session, form, 1)
        runs = runs_of_columns(session, form.columns, each, budget)
        for chunk in batch.chunks(bytes_per_sample(session, form, len(runs[0])), budget):
            for some in runs:
                own = session if len(runs) == 1 else session.of_columns(some)
                yield partial(_chunk, own, form, chunk, some.start == 0)


def _chunk(session: Session, form: Form, chunk: Batch, new: bool) -> TappedChunks:
    for seen, taps in tap(session, form, chunk):
        yield (seen.size if new else 0), taps
