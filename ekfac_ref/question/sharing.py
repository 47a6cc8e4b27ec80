r"""How the positions of a shared weight become the rows that KFAC's factors are made of.

A weight that is used at T positions has G_nc = sum_t g_nct a_nt^T. KFAC needs one list of input
rows and one of gradient rows, and there are two ways to make them (Eschenhagen et al. 2023,
2311.00636); M positions count in total, and N+ samples have at least one that does:

- ``Expand()``: every position is a row.  A = (1/M) sum_nt a_nt a_nt^T,
  B = (1/N) sum_nct g_nct g_nct^T.
- ``Reduce()``: every sample is a row.  abar_n = mean_t a_nt and ghat_nc = sum_t g_nct over the
  positions that count, A = (1/N+) sum_n abar_n abar_n^T, B = (1/N) sum_nc ghat_nc ghat_nc^T.

They agree where T = 1. Libraries move the 1/T between the factors; only the product B (x) A can be
compared.
"""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from ekfac_ref.question.one_hot import OneHot


@dataclass(frozen=True)
class Rows:
    """The rows of one chunk.

    Attributes:
        a: inputs; A is their sum of outer products over the *number of rows* of the whole problem.
        g: output gradients; B is their sum of outer products over the *number of samples*.
        complete: whether every G_nc is made of these very rows (Expand, or T = 1). Only then does
            a direction that no row has carry no gradient either.
    """

    a: Float[Tensor, "rows_a d_in"] | OneHot
    g: Float[Tensor, "rows_g d_out"]
    complete: bool

    def of_no_inputs(self) -> "Rows":
        """The rows of the gradients alone."""
        if isinstance(self.a, OneHot):
            return replace(self, a=replace(self.a, words=self.a.words[:0]))
        return replace(self, a=self.a[:0])


@dataclass(frozen=True)
class Expand:
    """Every position is a row."""

    def rows(
        self,
        a: Float[Tensor, "N T d_in"] | OneHot,
        g: Float[Tensor, "N C T d_out"],
        counted: Bool[Tensor, "N T"] | None,
    ) -> Rows:
        """Rows over n, t and over n, c, t; ``counted=None`` means that every position counts."""
        if isinstance(a, OneHot):
            return Rows(a.rows(counted), g.flatten(0, 2), complete=True)
        kept = a.flatten(0, 1) if counted is None else a[counted]
        return Rows(kept, g.flatten(0, 2), complete=True)


@dataclass(frozen=True)
class Reduce:
    """Every sample is a row: inputs averaged, gradients summed over its positions."""

    def rows(
        self,
        a: Float[Tensor, "N T d_in"] | OneHot,
        g: Float[Tensor, "N C T d_out"],
        counted: Bool[Tensor, "N T"] | None,
    ) -> Rows:
        """Rows over n and over n, c; g is zero where a position does not count.

        Of several words, the mean is a bag of them; samples without a position have no row.
        """
        complete = g.shape[2] <= 1
        if isinstance(a, OneHot) and complete:
            return Rows(a.rows(counted), g.flatten(0, 2), complete)
        a = a.dense() if isinstance(a, OneHot) else a
        if counted is None:
            kept = a.mean(1) if a.shape[1] else a.flatten(0, 1)
            return Rows(kept, g.sum(2).flatten(0, 1), complete)
        count = counted.sum(1)
        total = (a * counted[..., None]).sum(1)
        kept = total[count > 0] / count[count > 0, None]
        return Rows(kept, g.sum(2).flatten(0, 1), complete)


Sharing = Expand | Reduce
