r"""Running means of A, B and Lambda, as optimizers have them: what stays, and what comes in.

    mean_t = kept mean_(t-1) + taken M_t

with M_t of batch t alone, which has n_t rows, and a beta that older batches fade by.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OverSamples:
    """sum_s beta^(t-s) n_s M_s / sum_s beta^(t-s) n_s: every row counts the same."""

    def parts(self, counts: Sequence[float], beta: float) -> tuple[float, float]:
        """(kept, taken) at the last of batches that have so many rows each."""
        faded = sum(n * beta ** (len(counts) - s) for s, n in enumerate(counts[:-1], start=1))
        return faded / (faded + counts[-1]), counts[-1] / (faded + counts[-1])


@dataclass(frozen=True)
class OverBatches:
    """sum_s beta^(t-s) M_s / sum_s beta^(t-s): every batch counts the same, whatever its size.

    That is (1 - beta) sum_s beta^(t-s) M_s with its bias corrected.
    """

    def parts(self, counts: Sequence[float], beta: float) -> tuple[float, float]:
        """(kept, taken) at the last of so many batches."""
        return OverSamples().parts([1.0] * len(counts), beta)


@dataclass(frozen=True)
class FromTheFirst:
    """M_1 at first, then beta mean + (1 - beta) M_t."""

    def parts(self, counts: Sequence[float], beta: float) -> tuple[float, float]:
        """(kept, taken) at the last of so many batches."""
        return (beta, 1 - beta) if len(counts) > 1 else (0.0, 1.0)


@dataclass(frozen=True)
class FromZero:
    """beta mean + (1 - beta) M_t, from zero on: too small by 1 - beta^t, without a correction."""

    def parts(self, counts: Sequence[float], beta: float) -> tuple[float, float]:
        """(kept, taken) at every batch alike."""
        return beta, 1 - beta


@dataclass(frozen=True)
class Latest:
    """M_t: every batch by itself, whatever beta is."""

    def parts(self, counts: Sequence[float], beta: float) -> tuple[float, float]:
        """(kept, taken) at every batch alike."""
        return 0.0, 1.0


Average = OverSamples | OverBatches | FromTheFirst | FromZero | Latest
