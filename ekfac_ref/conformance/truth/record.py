"""One pass over the data, sample by sample: a, g and which positions count, of every layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.model.forms import Learned
from ekfac_ref.model.session import Kind, Session, open_session
from ekfac_ref.model.taps import Tap, tap
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True, eq=False)
class Record:
    """What one pass over the data saw of one layer (group), in the dtype of the pass.

    ``a``, ``g``, ``counted`` and ``batch`` are lists over samples, as in ``Observation``.
    """

    a: list[Tensor]
    g: list[Tensor]
    counted: list[Tensor]
    batch: list[int]


def record(
    problem: Problem, kind: Kind = Session, learned: Learned | None = None
) -> dict[str, list[Record]]:
    """{layer: what every group of it saw}, in the problem's own dtype.

    ``kind`` is of the session; another one may have other columns. ``learned`` is what sessions of
    this model know.
    """
    session = open_session(problem, kind, learned=learned)
    pieces = [
        (number, taps)
        for number, (batch, form) in enumerate(session.batches())
        for _, taps in tap(session, form, batch)
    ]
    return {
        layer.name: [
            _joined([(number, taps[layer.name][group]) for number, taps in pieces])
            for group in range(layer.groups)
        ]
        for layer in session.layers
    }


def _joined(pieces: list[tuple[int, Tap]]) -> Record:
    """Of one group; every piece comes with the number of its batch."""
    return Record(
        a=[a for _, taps in pieces for a in taps.a],
        g=[g for _, taps in pieces for g in taps.g],
        counted=[counted for _, taps in pieces for counted in _counted(taps)],
        batch=[number for number, taps in pieces for _ in taps.a],
    )


def _counted(taps: Tap) -> Tensor:
    everything = torch.ones(taps.a.shape[:2], dtype=torch.bool)
    return everything if taps.counted is None else taps.counted


class Known(Session):
    """Of a problem whose wiring has been checked before: that is half of the work."""

    def is_new(self, batch: Batch) -> bool:
        """Whether its wiring is still to be checked: never."""
        return False
