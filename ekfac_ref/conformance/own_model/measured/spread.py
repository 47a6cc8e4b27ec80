r"""How far F is from a multiple of the identity where eigenvalues of A and B are equal: one pass.

Inside of such a block b, of m_b pairs of eigenvectors, any basis is right, and by how much right
answers differ hangs on :math:`|D_b|^2 = |F_b|^2 - (\operatorname{tr} F_b)^2 / m_b`, with
:math:`D_b = F_b - (\operatorname{tr} F_b / m_b) I`. F_b is not written down: with normal numbers v,
the mean of :math:`|D_b v|^2` is :math:`|D_b|^2`, and :math:`F_b v` is the mean of
:math:`G_{b,nc} \langle G_{b,nc}, v \rangle`. One vector serves all blocks at once.

**Level.** Least certain is a D_b of one direction. Then the mean over VECTORS is that of as many
squared normal numbers, and below r of what it is to be with probability
:math:`(r e^{1 - r})^{\text{VECTORS} / 2}` at most: a sixteenth with 1e-9. MARGIN times the mean is
then a quarter of :math:`|D_b|^2`, and products may still differ by twice as much as right matrices
do (``readings.free_of_products``). Random signs would not do: two equal entries may see none.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.conformance.own_model.measured.measure import Measured
from ekfac_ref.conformance.own_model.measured.sums import chunks
from ekfac_ref.question.problem import Problem

VECTORS = 24
MARGIN = 4.0
_WIDE = 0.25  # of |E|: a bound that leaves room for another E; below it other laws tell


def with_spread(
    exact: Problem, known: Sequence[Measured], tick: Callable[[], None] = lambda: None
) -> list[Measured]:
    """Every part, with a closer bound on ``uneven`` where that of the trace is wide.

    Args:
        exact: the problem in float64.
        known: of all its parts.
        tick: called at the end.
    """
    wide = [i for i, one in enumerate(known) if float(one.uneven.sum()) ** 0.5 > _WIDE * one.size]
    images = {i: known[i].Lambda.new_zeros(VECTORS, *known[i].part.shape) for i in wide}
    vectors = {i: _normal(known[i], i) for i in wide}
    for several in chunks(exact, [known[i].part for i in wide]) if wide else ():
        for i, chunk in zip(wide, several, strict=True):
            G = chunk.rotated(known[i].B.Q, known[i].A.Q)
            for image, v in zip(images[i], vectors[i], strict=True):
                image += (G * _spread_out(known[i], _sums(known[i], G * v))).sum((0, 1))
    found = list(known)
    for i in wide:
        found[i] = replace(known[i], spread=_spread(known[i], images[i], vectors[i]))
    tick()
    return found


def _spread(
    known: Measured, images: Float[Tensor, "draws d_out d_in"], vectors: Tensor
) -> Float[Tensor, "clusters_B clusters_A"]:
    """MARGIN times the mean of |D_b v|^2, of every block."""
    numbers = known.blocks(torch.ones_like(known.Lambda))
    mean = _spread_out(known, known.blocks(known.Lambda) / numbers)
    off = images / known.samples - mean * vectors
    return MARGIN * known.blocks(off.square().mean(0))


def _normal(known: Measured, seed: int) -> Float[Tensor, "draws d_out d_in"]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(VECTORS, *known.part.shape, generator=generator, dtype=torch.float64)


def _sums(known: Measured, x: Float[Tensor, "*batch d_out d_in"]) -> Tensor:
    """Over blocks, [*batch, clusters_B, clusters_A]."""
    for axis, cluster in ((-2, known.B.cluster), (-1, known.A.cluster)):
        shape = list(x.shape)
        shape[axis] = int(cluster[-1]) + 1
        x = x.new_zeros(shape).index_add_(axis % x.dim(), cluster, x)
    return x


def _spread_out(known: Measured, of_blocks: Tensor) -> Float[Tensor, "*batch d_out d_in"]:
    """The number of its block at every entry."""
    return of_blocks[..., known.B.cluster, :][..., known.A.cluster]
