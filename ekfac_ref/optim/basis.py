r"""A new eigenbasis for eigenvalues that were gathered in an old one.

The eigenvalues are re-expressed: the new ones are the diagonal of the old matrix E, read in the new
basis,

    Lambda'_oi = q'_oi^T E q'_oi = [ (Q_B'^T Q_B)^2  Lambda  ((Q_A'^T Q_A)^2)^T ]_oi,

with elementwise squares and q'_oi the Kronecker product of column o of Q_B' and column i of Q_A'.
The squares of an orthogonal matrix are doubly stochastic, so the trace stays and nothing turns
negative; where the bases agree up to order and sign, so do the eigenvalues. What is lost is what
Lambda never held: the old E is only diagonal in the old basis. Starting again from zero would lose
the history each time instead.

Both bases are full and square. A thin one has no room for the directions that later data bring.
Where A is diagonal, of words that are looked up, Q_A = I is never written out and stays: Lambda' is
then (Q_B'^T Q_B)^2 Lambda.
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ekfac_ref.matrix.operators import EigenKronecker
from ekfac_ref.optim.curvature import InBasis


def re_expressed(
    old: InBasis,
    Q_B: Float[Tensor, "d_out d_out"],
    Q_A: Float[Tensor, "d_in d_in"] | None = None,
) -> InBasis:
    """The diagonal of the old matrix, of the same scale, in the new basis; None leaves Q_A."""
    rows = (Q_B.T @ old.Q_B).square_()
    if Q_A is None:
        return replace(old, Q_B=Q_B, eigenvalues=rows @ old.eigenvalues)
    columns = (Q_A.T @ old.Q_A).square_()
    return EigenKronecker(Q_B, Q_A, rows @ old.eigenvalues @ columns.T)
