"""KFAC's eigenbasis of one block, and EKFAC's operator in it: by two matrices, or by words."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from ekfac_ref.matrix.ekfac import eigenbasis, squares_from_taps
from ekfac_ref.matrix.kfac import FactorSums
from ekfac_ref.matrix.lookup import LookupEigenKronecker
from ekfac_ref.matrix.operators import EigenKronecker
from ekfac_ref.matrix.words import Counts, squares_from_words
from ekfac_ref.question.one_hot import LARGE_VOCABULARY, OneHot


@dataclass(frozen=True, eq=False)
class MatrixBasis:
    """The eigenvectors of B and A as columns."""

    Q_B: Float[Tensor, "d_out r_out"]
    Q_A: Float[Tensor, "d_in r_in"]

    @property
    def shape(self) -> tuple[int, int]:
        """[r_out, r_in], the shape of Lambda."""
        return self.Q_B.shape[1], self.Q_A.shape[1]

    def squares(
        self, a: Float[Tensor, "N T d_in"] | OneHot, g: Float[Tensor, "N C T d_out"]
    ) -> Float[Tensor, "r_out r_in"]:
        """N Lambda of a chunk of samples."""
        dense = a.dense() if isinstance(a, OneHot) else a
        return squares_from_taps(dense, g, self.Q_B, self.Q_A)

    def operator(self, eigenvalues: Float[Tensor, "r_out r_in"]) -> EigenKronecker:
        """What has these eigenvalues here."""
        return EigenKronecker(self.Q_B, self.Q_A, eigenvalues)


@dataclass(frozen=True, eq=False)
class WordBasis:
    """The eigenvectors of B as columns; those of A are the words that occur, in their order."""

    Q_B: Float[Tensor, "d_out r_out"]
    words: Int[Tensor, " u"]
    vocabulary: int

    @property
    def shape(self) -> tuple[int, int]:
        """[r_out, u], the shape of Lambda."""
        return self.Q_B.shape[1], len(self.words)

    def squares(
        self, a: Float[Tensor, "N T d_in"] | OneHot, g: Float[Tensor, "N C T d_out"]
    ) -> Float[Tensor, "r_out u"]:
        """N Lambda of a chunk of samples."""
        assert isinstance(a, OneHot)
        return squares_from_words(a, g, self.Q_B, self.words)

    def operator(
        self, eigenvalues: Float[Tensor, "r_out u"]
    ) -> EigenKronecker | LookupEigenKronecker:
        """What has these eigenvalues here; with Q_A written out, if the vocabulary is small."""
        lookup = LookupEigenKronecker(self.Q_B, self.words, eigenvalues, self.vocabulary)
        return lookup if self.vocabulary > LARGE_VOCABULARY else lookup.written_out()


def basis_of(factors: FactorSums) -> MatrixBasis | WordBasis:
    """The eigenvectors of both factors."""
    if isinstance(factors.a, Counts):
        return WordBasis(eigenbasis(factors.g), factors.a.seen, len(factors.a.counts))
    return MatrixBasis(eigenbasis(factors.g), eigenbasis(factors.a))
