"""Further passes over the data have to see what the first one saw."""

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.batches import Batch


class RepeatedData:
    """What the batches of a first pass were, by the sums over their tensors."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[str, ...]] = {}  # by the number of a batch's first sample

    def check(self, batch: Batch) -> None:
        """Raise a ProblemError where an earlier pass had other data at this place."""
        sums = batch.sums
        if self._sums.setdefault(batch.first, sums) != sums:
            raise ProblemError(
                f"batches: at sample {batch.first} a further pass has other data than the first, "
                "and the curvature takes several; draw orders and augmentations by the global "
                "random numbers of torch, numpy or Python, which are put back, or pass a list: "
                "list(batches)."
            )
