r"""A mean over all rows seen so far, in which older batches count for less.

    mean_t = sum_{s <= t} beta^(t-s) S_s  /  sum_{s <= t} beta^(t-s) n_s

S_s is the *sum* over batch s and n_s the number of its rows. Numerator and denominator fade alike,
so the first batches need no bias correction, and a last, smaller batch counts for as much as it
holds. beta = 0 is the last batch alone, beta = 1 the mean over everything seen.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class RunningMean:
    """The two sums above.

    Attributes:
        total: the faded sum over rows.
        count: the faded number of rows.
    """

    total: Float[Tensor, "*shape"]
    count: float

    @staticmethod
    def of(mean: Float[Tensor, "*shape"], count: float) -> "RunningMean":
        """One that has this mean."""
        return RunningMean(mean * count, count)

    @property
    def mean(self) -> Float[Tensor, "*shape"]:
        """The faded sum over the faded number of rows."""
        return self.total / self.count

    def faded(self, beta: float) -> "RunningMean":
        """A mean of the same value that counts for less: a new batch begins."""
        return RunningMean(self.total * beta, self.count * beta)

    def plus(self, total: Float[Tensor, "*shape"], count: float) -> "RunningMean":
        """With the sum over ``count`` more rows."""
        return RunningMean(self.total + total, self.count + count)
