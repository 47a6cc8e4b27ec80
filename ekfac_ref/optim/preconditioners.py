r"""Two preconditioners with one face: EKFAC's and KFAC's."""

from typing import final

from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.matrix.lookup import LookupEigenKronecker, kronecker_product
from ekfac_ref.matrix.operators import EigenKronecker
from ekfac_ref.optim.basis import re_expressed
from ekfac_ref.optim.curvature import InBasis
from ekfac_ref.optim.preconditioner import Preconditioner
from ekfac_ref.optim.reading import Chunks, Key
from ekfac_ref.optim.running import RunningMean
from ekfac_ref.optim.sums import running_eigenvalues


@final
class EKFACPreconditioner(Preconditioner):
    """(scale E + damping I)^-1 with E = (Q_B (x) Q_A) diag(vec Lambda) (Q_B (x) Q_A)^T.

    Eigenbases come from the running factors every ``recompute_every`` updates; Lambda follows at
    every update, in the basis of that time. At a refresh the Lambda so far is re-expressed in the
    new basis (``basis.py``), not started again: that would lose the history each time.

    Source: George et al. 2018 (1806.03884), Algorithm 1 and the idea of their running average
    (EKFAC-ra). Theirs averages squares of the *mean* gradient of a batch; here they are squares of
    per-sample gradients, which is what Lambda is made of.
    """

    def _new_basis(self, old: InBasis | None, A: RunningMean, B: RunningMean) -> InBasis:
        Q_B = eigh(B.total)[1]  # scale plays no part
        zeros = Q_B.new_zeros(len(Q_B), len(A.total))
        if A.total.ndim == 1:  # of a lookup, and words are its eigenvectors
            zero = LookupEigenKronecker.of_all_words(Q_B, zeros)
            return zero if old is None else re_expressed(old, Q_B)
        Q_A = eigh(A.total)[1]
        return EigenKronecker(Q_B, Q_A, zeros) if old is None else re_expressed(old, Q_B, Q_A)

    def _with_batch(
        self, operators: dict[Key, InBasis], chunks: Chunks, count: float
    ) -> dict[Key, InBasis]:
        return running_eigenvalues(operators, chunks, count)


@final
class KFACPreconditioner(Preconditioner):
    """(scale B (x) A + damping I)^-1, exactly (not (B + .. I) (x) (A + .. I)), for comparison.

    Every ``recompute_every`` updates the operator is taken from the running factors; it stays until
    the next time. Source: Martens & Grosse 2015 (1503.05671).
    """

    def _new_basis(self, old: InBasis | None, A: RunningMean, B: RunningMean) -> InBasis:
        return kronecker_product(B.mean, A.mean).diagonalized()

    def _with_batch(
        self, operators: dict[Key, InBasis], chunks: Chunks, count: float
    ) -> dict[Key, InBasis]:
        return operators
