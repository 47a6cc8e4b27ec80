"""What every layer saw of the whole data, one chunk of samples after another."""

from collections.abc import Iterator

from ekfac_ref.model.session import Seen, Session
from ekfac_ref.model.taps import Tap, tap
from ekfac_ref.question.batches import Batch


def tapped(session: Session, budget: int) -> Iterator[tuple[Batch, dict[str, tuple[Tap, ...]]]]:
    """One pass: {layer: one Tap per group} of chunks that need about ``budget`` bytes at most."""
    for batch, seen in session.batches():
        for chunk in batch.chunks(_bytes_per_sample(session, seen), budget):
            yield chunk, tap(session.model, session.layers, seen.uses, chunk, session.columns)


def _bytes_per_sample(session: Session, seen: Seen) -> int:
    numbers, C = 0, seen.columns
    for layer in session.layers:
        T = sum(use.axes.numel() for use in seen.uses[layer.name])
        d_out, d_in = layer.shape
        inputs_and_gradients = T * (layer.groups * d_in + C * d_out)
        numbers += inputs_and_gradients + (C * d_out * d_in if T > 1 else 0)
    return 2 * numbers * session.layers[0].weight.itemsize
