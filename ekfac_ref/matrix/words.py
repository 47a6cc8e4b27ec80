r"""The input side of a lookup: inputs are one-hot, so A is diagonal, and words are its basis.

    A = diag(frequencies),   frequency of word w = (positions that have w) / M

so Q_A is the identity, on the words that occur; a gradient has no other columns. Equally frequent
words have one eigenvalue, any basis of them is one of eigenvectors, and they themselves are the one
to choose. Column w of G is the sum of g over the positions of w *in one sample*, which comes before
the square:

    Lambda_ow = (1/N) sum_nc [Q_B^T sum_{t: w_nt = w} g_nct]_o^2

All of it takes as many operations as there are positions, however large the vocabulary.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.one_hot import OneHot
from ekfac_ref.question.sharing import Reduce, Sharing

LARGEST_OF_BAGS = 16_384  # words: A has 2 GiB in float64


@dataclass(frozen=True, eq=False)
class Counts:
    """How many of the rows so far are of each word: their Gram matrix, which is diagonal.

    Attributes:
        counts: of every word of the vocabulary.
        dtype: of the matrices.
    """

    counts: Int[Tensor, " words"]
    dtype: torch.dtype

    @staticmethod
    def of(rows: OneHot) -> "Counts":
        """The counts of one chunk of rows."""
        known = rows.words[rows.words >= 0]
        return Counts(torch.bincount(known, minlength=rows.size), rows.dtype)

    def plus(self, other: "Counts") -> "Counts":
        """The counts of both chunks together."""
        return Counts(self.counts + other.counts, self.dtype)

    def gram(self) -> Float[Tensor, "words words"]:
        """The sum of row^T row over all rows, written out."""
        return torch.diag(self.diagonal)

    @property
    def diagonal(self) -> Float[Tensor, " words"]:
        """That of the Gram matrix: the counts in the dtype of the matrices."""
        return self.counts.to(self.dtype)

    @property
    def seen(self) -> Int[Tensor, " u"]:
        """The words that occur, in their order; the first of all, if none does."""
        words = self.counts.nonzero()[:, 0]
        return words if len(words) else words.new_zeros(1)


def squares_from_words(
    a: OneHot,
    g: Float[Tensor, "N C T d_out"],
    Q_B: Float[Tensor, "d_out r_out"],
    words: Int[Tensor, " u"],
) -> Float[Tensor, "r_out u"]:
    """sum_nc [Q_B^T G_nc]^2 in the columns of these words, which are in order: N Lambda."""
    of_sample = torch.arange(len(g), device=g.device)[:, None].expand_as(a.words)
    kept = torch.isin(a.words, words)
    pairs = torch.stack([of_sample[kept], a.words[kept]])  # a word twice in a sample is one column
    columns, which = torch.unique(pairs, dim=1, return_inverse=True)
    rotated = (g @ Q_B).movedim(2, 1)[kept]  # [positions, C, r_out]
    G = rotated.new_zeros(columns.shape[1], *rotated.shape[1:]).index_add_(0, which, rotated)
    found = rotated.new_zeros(len(words), Q_B.shape[1])
    place = torch.searchsorted(words, columns[1].contiguous())
    return found.index_add_(0, place, G.square_().sum(1)).T


def check_bags(name: str, a: Tensor | OneHot, positions: int, sharing: Sharing) -> None:
    """Raise a ProblemError for a large A that Reduce makes of what is diagonal under Expand."""
    d = a.size if isinstance(a, OneHot) else 0
    if isinstance(sharing, Reduce) and positions > 1 and d > LARGEST_OF_BAGS:
        raise ProblemError(
            f"layer {name!r}: under Reduce() its A is the second moment of bags of words, {d} x "
            f"{d} and not diagonal; choose sharing=Expand(), under which it is, or leave the layer "
            "out by naming the others in Problem(layers=...)."
        )
