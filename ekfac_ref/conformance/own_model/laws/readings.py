r"""Every eigenvalue of an EKFAC block from a few products with it, and what they are known to.

With eigenvectors Q_B, Q_A of B and A and a matrix S of independent signs, let

.. math:: V = Q_B S Q_A^\top, \qquad r = S \circ (Q_B^\top E(V)\, Q_A).

With M the matrix of E in the basis :math:`Q_B \otimes Q_A` that is
:math:`r_i = M_{ii} + \sum_{j \ne i} s_i s_j M_{ij}`. Where eigenvalues are simple, M is diagonal,
and r is Lambda: one product gives all. Inside of a cluster b of equal eigenvalues the basis is
free. There sum_b r is tr M_b in the mean over signs, with the variance

.. math:: 2 \sum_{i \ne j \in b} M_{ij}^2 \le 2\, (|F_b|^2 - (\operatorname{tr} F_b)^2 / m_b),

since M_b = R diag(diag(R^T F_b R)) R^T for some rotation R: so |M_b| <= |F_b|, and the squares on
the diagonal of M_b sum to (tr M_b)^2 / m_b at least, tr M_b = tr F_b. The mean over READS has no
more. The signs of neighbours are orthogonal over these, so that a cluster of two eigenvalues
leaves no variance at all.

**Of any matrix.** An answer that does not commute with A and B has more beside the diagonal, and r
is not its eigenvalues: not even positive, where all of these are. Then laws of sums of r would
accuse it of what it has right, its trace, say. With independent signs s' the mean of
:math:`(r_i - r'_i)^2` is :math:`2 \sum_{j \ne i} M_{ij}^2`, and the squares
:math:`w_i^2 (r_i - r'_i)^2` sum in the mean to the variance of :math:`\sum_i w_i r_i` at least, for
symmetric M. So what such a sum may be off by is measured on the answer itself; ``spectrum``, which
is about r as it is, and ``commutes`` find it wrong.

**Level.** Such a sum is a homogeneous polynomial of degree 2 in signs, whose moments are bounded by
:math:`\lVert X \rVert_q \le (q - 1) \lVert X \rVert_2` (Bonami 1970); so
:math:`P(|X| \ge t \sigma) \le ((q - 1) / t)^q` for every q, which is exp(-t / e - 1) at
q = 1 + t / e, and 1e-9 at t = SIGMAS.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.conformance.own_model.measured.measure import Measured
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.truth.tolerance import MISTAKE

READS = 4
SIGMAS = 54.0
_OTHER = 7_919  # from the seed of signs to that of those which are independent of them
# What all sums that are compared may be off by before that is a mistake, relative to |Lambda|: few
# sums to high precision, and more of them to less.
SEEN = (0.003, 0.03, 0.3)


@dataclass(frozen=True, eq=False)
class Reading:
    """What READS products with one operator say of its eigenvalues.

    Attributes:
        values: the mean of r over all products, [d_out, d_in].
        size: |E|, as |E V| says it for a V of signs; the largest of all products.
        square: |E|^2, the mean of |E V|^2.
        beside: of every r how far apart it is with other signs; zero for a diagonal M, but for
            rounding.
    """

    values: Float[Tensor, "d_out d_in"]
    size: float
    square: float
    beside: Float[Tensor, "d_out d_in"]

    def chance(self, weights: Tensor) -> float:
        """What sums of r with such weights are off by, in units of which MISTAKE are SIGMAS."""
        return SIGMAS / MISTAKE * float((weights * self.beside).norm())


def read_eigenvalues(M: Own, known: Measured, seed: int) -> Reading:
    """By so many products, READS, with V of signs in the basis Q_B (x) Q_A, and one to compare."""
    Q_B, Q_A = known.B.Q, known.A.Q

    def read(S: Tensor) -> Tensor:
        return S * (Q_B.T @ M.matvec((Q_B @ S @ Q_A.T).to(known.algebra)).double() @ Q_A)

    generator = torch.Generator().manual_seed(seed + _OTHER)
    other = read(_random_signs(known.part.shape, generator))
    r = torch.stack([read(S) for S in signs(known.part.shape, seed)])
    squares = r.square().sum((1, 2))
    beside = (r - other).square().mean(0).sqrt()
    return Reading(r.mean(0), float(squares.amax().sqrt()), float(squares.mean()), beside)


def signs(shape: tuple[int, int], seed: int) -> Float[Tensor, "4 d_out d_in"]:
    """Random signs; those of neighbours, in a row or a column, are orthogonal over the products."""
    generator = torch.Generator().manual_seed(seed)
    one = _random_signs(shape, generator)
    rows, columns = ((-1.0) ** torch.arange(d, dtype=torch.float64) for d in shape)
    both = rows[:, None] * columns
    patterns = [torch.ones_like(both), rows[:, None].expand(shape), columns.expand(shape), both]
    return one * torch.stack(patterns)


def _random_signs(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, shape, generator=generator).double() * 2 - 1


def left_to_chance(known: Measured) -> Float[Tensor, "clusters_B clusters_A"]:
    """Variances of the sums of r over blocks, as far as signs of neighbours leave any."""
    several = [one.members.sum(0) > 2 for one in (known.B, known.A)]
    free = several[0][:, None] | several[1]
    return torch.where(free, 2 * known.uneven, 0.0)


def off_of_products(known: Measured) -> float:
    """How far rounding moves E V of a right answer, for |V|^2 = P, beside the product's own."""
    return known.off + float(known.turned.norm())


def free_of_products(known: Measured) -> float:
    """How far apart E V of two right answers may be by their bases inside of clusters.

    Inside of one, E less its mean is D (``measured/spread.py``) without what is off the diagonal in
    its basis, so <E, D> = |E|^2. All such lie on the sphere that has the line from 0 to D for a
    diameter, and are |D| = sqrt(uneven) apart at most. |X V| is |X| in the mean: four times that.
    """
    return 4 * float(known.uneven.sum()) ** 0.5


def off_beside(known: Measured, weights: Float[Tensor, "d_out d_in"]) -> float:
    """What r, summed with such weights, is off by: what stands beside the diagonal of M.

    The weights are the same inside of a block. Chance is told in such units that MISTAKE of them
    are SIGMAS.
    """
    squares = known.blocks(weights**2) / known.blocks(torch.ones_like(weights))
    chance = float((squares * left_to_chance(known)).sum()) * (SIGMAS / MISTAKE) ** 2
    turned = float((weights**2 * known.turned**2).sum()) * 2
    return float((chance + turned) ** 0.5)


@dataclass(frozen=True, eq=False)
class Sums:
    """Which sums of eigenvalues are compared, and what a right answer may be off by.

    Attributes:
        read: which blocks; a simple pair of eigenvalues is one.
        off: of all of these together, in the Frobenius norm.
        share: of the squares of all sums, that of those that are compared; 1 where all are zero.
    """

    read: Tensor
    off: float
    share: float


def sums_to_compare(known: Measured) -> list[Sums]:
    """For each of SEEN as many as may be off by so much in all, the surest first."""
    chance = left_to_chance(known) * (SIGMAS / MISTAKE) ** 2
    squares = (known.blocks(known.turned**2) + chance).reshape(-1)
    order, right = squares.argsort(), known.blocks(known.Lambda) ** 2
    fixed = product_off(known) ** 2 + known.off**2
    total = (squares[order].cumsum(0) + fixed).sqrt()
    found = []
    for seen in SEEN:
        number = int((MISTAKE * total <= seen * known.size).sum())
        if number:
            read = torch.zeros_like(squares, dtype=torch.bool)
            read[order[:number]] = True
            read = read.reshape(chance.shape)
            share = float(right[read].sum() / right.sum()) if right.any() else 1.0
            found.append(Sums(read, float(total[number - 1]), share))
    return found


def product_off(known: Measured) -> float:
    """How far a product with a V of signs is off, its eigenvalues being right: two rotations."""
    d_out, d_in = known.part.shape
    return known.roundoff * (d_out**0.5 + d_in**0.5) * known.size
