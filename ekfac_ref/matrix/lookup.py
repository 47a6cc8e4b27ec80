r"""B (x) A and its eigenvalue-corrected form for a lookup, without any matrix on the vocabulary.

Both act on the columns of V that are words seen, and are zero on the others; an optimizer, which
may see the others later, has all words. Attributes and answers are those of ``Kronecker`` and
``EigenKronecker``, which ``written_out()`` turns them into; A and Q_A are written out when they are
asked for.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ekfac_ref.errors import enough_memory
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.matrix.operators import EigenKronecker, Kronecker, damped, without_noise
from ekfac_ref.matrix.vectors import check_vector

_Matrix = Float[Tensor, "d_out d_in"]
_Scalar = Float[Tensor, ""]


def kronecker_product(
    B: Float[Tensor, "d_out d_out"], A: Float[Tensor, "d_in d_in"] | Float[Tensor, " words"]
) -> "Kronecker | LookupKronecker":
    """B (x) A, or B (x) diag(A) where A is given by its diagonal, as that of a lookup is."""
    if A.ndim == 2:
        return Kronecker(B, A)
    return LookupKronecker(B, torch.arange(len(A), device=A.device), A, len(A))


@dataclass(frozen=True, eq=False)
class LookupKronecker:
    """B (x) diag(frequencies): V -> (B V) with every column times the frequency of its word.

    Attributes:
        B: as in ``Kronecker``.
        words: those that occur, or more.
        frequencies: of these, as parts of all positions.
        vocabulary: d_in.
    """

    B: Float[Tensor, "d_out d_out"]
    words: Int[Tensor, " u"]
    frequencies: Float[Tensor, " u"]
    vocabulary: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.B), self.vocabulary

    @property
    @enough_memory()
    def A(self) -> Float[Tensor, "d_in d_in"]:
        """Written out, with a zero row for every word that does not occur."""
        diagonal = self.frequencies.new_zeros(self.vocabulary)
        return torch.diag(diagonal.index_copy_(0, self.words, self.frequencies))

    def written_out(self) -> Kronecker:
        """As a pair of matrices."""
        return Kronecker(self.B, self.A)

    def diagonalized(self) -> "LookupEigenKronecker":
        """This matrix by its eigenvectors; its eigenvalues are the products of the factors'."""
        b, Q_B = eigh(self.B)
        eigenvalues = torch.outer(without_noise(b), self.frequencies)
        return LookupEigenKronecker(Q_B, self.words, eigenvalues, self.vocabulary)

    def dense(self) -> Float[Tensor, "P P"]:
        return self.written_out().dense()

    def matvec(self, V: _Matrix) -> _Matrix:
        check_vector(V, self.shape, self.B)
        columns = (self.B @ V[:, self.words]) * self.frequencies
        return torch.zeros_like(V).index_copy_(1, self.words, columns)

    def solve(self, V: _Matrix, *, damping: float) -> _Matrix:
        return self.diagonalized().solve(V, damping=damping)

    def trace(self) -> _Scalar:
        return self.B.trace() * self.frequencies.sum()

    def logdet(self, *, damping: float) -> _Scalar:
        return self.diagonalized().logdet(damping=damping)

    def scaled(self, factor: float) -> "LookupKronecker":
        return LookupKronecker(self.B * factor, self.words, self.frequencies, self.vocabulary)


@dataclass(frozen=True, eq=False)
class LookupEigenKronecker:
    """(Q_B (x) Q_A) diag(vec eigenvalues) (Q_B (x) Q_A)^T, the columns of Q_A those of words seen.

    Attributes:
        Q_B: as in ``EigenKronecker``.
        words: those that occur, or more.
        eigenvalues: in the columns of these; in all others they are zero.
        vocabulary: d_in.
    """

    Q_B: Float[Tensor, "d_out r_out"]
    words: Int[Tensor, " u"]
    eigenvalues: Float[Tensor, "r_out u"]
    vocabulary: int

    @staticmethod
    def of_all_words(
        Q_B: Float[Tensor, "d_out r_out"], eigenvalues: Float[Tensor, "r_out words"]
    ) -> "LookupEigenKronecker":
        """With an eigenvalue in the column of every word of the vocabulary."""
        words = torch.arange(eigenvalues.shape[1], device=Q_B.device)
        return LookupEigenKronecker(Q_B, words, eigenvalues, len(words))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.Q_B), self.vocabulary

    @property
    @enough_memory()
    def Q_A(self) -> Float[Tensor, "d_in u"]:
        """Written out: columns of the identity."""
        zeros = self.eigenvalues.new_zeros(len(self.words), self.vocabulary)
        return zeros.scatter_(1, self.words[:, None], 1.0).T

    def written_out(self) -> EigenKronecker:
        """With a matrix for Q_A."""
        return EigenKronecker(self.Q_B, self.Q_A, self.eigenvalues)

    def dense(self) -> Float[Tensor, "P P"]:
        return self.written_out().dense()

    def matvec(self, V: _Matrix) -> _Matrix:
        check_vector(V, self.shape, self.eigenvalues)
        return self._from_basis(self.eigenvalues * self._to_basis(V), V)

    def solve(self, V: _Matrix, *, damping: float) -> _Matrix:
        check_vector(V, self.shape, self.eigenvalues)
        eigenvalues = damped(self.eigenvalues, damping, self._has_null_space)
        coordinates = self._to_basis(V)
        inside = self._from_basis(coordinates / eigenvalues, V)
        if not self._has_null_space:
            return inside
        rest = V - self._from_basis(coordinates, V)  # twice, as in EigenKronecker
        rest = rest - self._from_basis(self._to_basis(rest), V)
        return rest / damping + inside

    def trace(self) -> _Scalar:
        return self.eigenvalues.sum()

    def logdet(self, *, damping: float) -> _Scalar:
        inside = damped(self.eigenvalues, damping, self._has_null_space).log().sum()
        null = len(self.Q_B) * self.vocabulary - self.eigenvalues.numel()
        return inside + null * torch.log(inside.new_tensor(damping)) if null else inside

    def scaled(self, factor: float) -> "LookupEigenKronecker":
        return LookupEigenKronecker(
            self.Q_B, self.words, self.eigenvalues * factor, self.vocabulary
        )

    def _to_basis(self, V: _Matrix) -> Float[Tensor, "r_out u"]:
        return self.Q_B.T @ V[:, self.words]

    def _from_basis(self, C: Float[Tensor, "r_out u"], like: _Matrix) -> _Matrix:
        return torch.zeros_like(like).index_copy_(1, self.words, self.Q_B @ C)

    @property
    def _has_null_space(self) -> bool:
        return self.eigenvalues.numel() < len(self.Q_B) * self.vocabulary
