"""Rows of an identity matrix by their numbers: the inputs of a lookup, without writing them out."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LARGE_VOCABULARY = 4096  # words; on more, no matrix is written out


@dataclass(frozen=True, eq=False)
class OneHot:
    """The inputs a of an Embedding.

    Attributes:
        words: which entry is 1; -1 where none is, at ``padding_idx``.
        size: of the vocabulary, d_in.
        dtype: of the rows, if they are written out.
    """

    words: Int[Tensor, "*rows"]
    size: int
    dtype: torch.dtype

    def rows(self, kept: Bool[Tensor, "*rows"] | None) -> "OneHot":
        """Those that are kept, or all, one after the other."""
        words = self.words.flatten() if kept is None else self.words[kept]
        return OneHot(words, self.size, self.dtype)

    def dense(self) -> Float[Tensor, "*rows size"]:
        """The rows, each with a single 1 in it, or none."""
        at, known = self.words.clamp(min=0)[..., None], (self.words >= 0)[..., None]
        zeros = torch.zeros(*self.words.shape, self.size, dtype=self.dtype, device=at.device)
        return zeros.scatter_(-1, at, known.to(self.dtype))
