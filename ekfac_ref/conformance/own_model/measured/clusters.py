r"""Which eigenvalues of a factor rounding can tell apart, and how far it turns its eigenvectors.

A factor that is off by dA has eigenvectors that are turned into one another by the angles
:math:`\theta_{jk} = (Q^\top dA\, Q)_{jk} / (\alpha_k - \alpha_j)`, to first order. So eigenvalues
closer than APART roundings are one **cluster**: inside of it any basis is as good an answer, and
the sum of Lambda over it is what all of them have in common.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ekfac_ref.matrix.eigen import eigh

APART = 100.0


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A factor by its eigenvalues, ascending, and what rounding makes of them.

    Attributes:
        factor: A or B.
        values: its eigenvalues; Q: its eigenvectors as columns.
        cluster: number of the cluster of every eigenvalue, from 0.
        turns: bounds on the angles by which rounding turns eigenvectors of different clusters.
        off: how far rounding moves the factor, in the Frobenius norm.
    """

    factor: Float[Tensor, "d d"]
    values: Float[Tensor, " d"]
    Q: Float[Tensor, "d d"]
    cluster: Int[Tensor, " d"]
    turns: Float[Tensor, "d d"]
    off: float

    @property
    def largest(self) -> float:
        """The largest eigenvalue of the factor."""
        return float(self.values[-1])

    @property
    def members(self) -> Float[Tensor, "d clusters"]:
        """1 where an eigenvalue is in a cluster, else 0."""
        return torch.nn.functional.one_hot(self.cluster).to(self.values)

    @property
    def is_zero(self) -> Tensor:
        """Which eigenvalues rounding cannot tell from zero, [d]."""
        return self.values <= APART * self.off / len(self.values) ** 0.5

    @classmethod
    def of(cls, factor: Tensor, Q: Tensor, off: float, roundoff: float) -> "Spectrum":
        """Of a factor that rounding moves by ``off``, and its eigenvalues by roundings of it.

        What a matrix is off by looks like noise, of which each of d^2 entries has its part; the
        backward error of an eigensolver is some roundings of the largest eigenvalue.
        """
        values = (Q * (factor @ Q)).sum(0)
        solver = roundoff * float(values.abs().amax())
        size = max(solver + off / len(Q), torch.finfo(torch.float64).tiny)
        apart = values.diff() > APART * size
        cluster = torch.cat([apart.new_zeros(1), apart]).cumsum(0)
        distance = (values[:, None] - values).abs().clamp(min=size)
        turns = torch.where(cluster[:, None] == cluster, 0.0, size / distance)
        return cls(factor, values, Q, cluster, turns, off + solver * len(Q) ** 0.5)


def eigenbasis_of(factor: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """Eigenvectors as columns, by ascending eigenvalues."""
    return eigh(factor)[1].contiguous()


def turned_by(spectra: tuple[Spectrum, Spectrum], Lambda: Tensor) -> Float[Tensor, "d_out d_in"]:
    r"""What turned eigenvectors of B and A do to every entry of Lambda, and beside it.

    To first order an entry i moves by :math:`2 \theta_{ik} F_{ik}`, with
    :math:`F_{ik}^2 \le \Lambda_i \Lambda_k`, and beside it stands
    :math:`\theta_{ik} (\Lambda_i - \Lambda_k)`: squares that sum to those of
    :math:`\theta_{ik} (\Lambda_i + \Lambda_k)`.
    """
    B, A = (one.turns**2 for one in spectra)
    squares = Lambda**2
    along_A = squares * A.sum(0) + 2 * Lambda * (Lambda @ A) + squares @ A
    along_B = squares * B.sum(0)[:, None] + 2 * Lambda * (B @ Lambda) + B @ squares
    return (along_A + along_B).clamp(min=0).sqrt()
