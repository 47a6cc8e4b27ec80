r"""Where the two halves meet: a problem in, {layer: operator} out.

Every function reads the data in one pass (``ekfac`` in two), adds up chunks of samples, and divides
by N at the end. All of them raise a ProblemError for a problem that has no right answer, and change
nothing of the caller's. A grouped layer gets a BlockDiagonal with one block per group.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import TypeVar

import torch

from ekfac_ref.errors import ProblemError
from ekfac_ref.matrix.ekfac import eigenbasis, squares_from_taps
from ekfac_ref.matrix.fisher import FullFisher, sum_of_outer_products
from ekfac_ref.matrix.kfac import Factors, add, chunk_factors, kronecker
from ekfac_ref.matrix.operators import Block, BlockDiagonal, Dense, EigenKronecker, Kronecker
from ekfac_ref.model.gradients import Gradients, gradients
from ekfac_ref.model.random_state import apart, generators, untouched
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.model.tapped import tapped
from ekfac_ref.question.problem import Problem

CHUNK_BYTES = 256 * 2**20

Value = TypeVar("Value")
ByGroup = dict[str, list[Value]]


def _undisturbed(compute: Callable[[Problem], Value]) -> Callable[[Problem], Value]:
    """Whatever gradient mode the caller is in, and leaving the caller's random numbers alone."""

    @wraps(compute)
    def undisturbed(problem: Problem) -> Value:
        with torch.inference_mode(False), torch.no_grad(), untouched(*generators(problem.batches)):
            return compute(problem)

    return undisturbed


@torch.inference_mode(False)
@torch.no_grad()
def per_sample_gradients(problem: Problem) -> Iterator[Gradients]:
    """G_nc of every layer, one chunk of consecutive samples after another.

    Yields {layer: [n, C, d_out, d_in]}, gradients of <f_n, s_nc> with respect to [W | b] for the
    unit likelihood; no factor of N. Rows of a grouped layer are stacked group by group. Chunks
    follow the order of the data and hold about CHUNK_BYTES at most.
    """
    chunks = gradients(open_session(problem), CHUNK_BYTES)
    yield from apart(chunks, *generators(problem.batches))


@_undisturbed
def exact_fisher(problem: Problem) -> dict[str, Dense | BlockDiagonal]:
    """F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T of every layer, from explicit gradients.

    Dense: quadratic in the parameters of a layer.
    """
    session = open_session(problem)
    N = 0
    sums: ByGroup[torch.Tensor] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for G in gradients(session, CHUNK_BYTES):
        for layer in session.layers:
            by_group = G[layer.name].chunk(layer.groups, 2)
            shapes[layer.name] = (by_group[0].shape[2], by_group[0].shape[3])
            _accumulate(sums, layer.name, [sum_of_outer_products(G_k) for G_k in by_group], _plus)
        N += len(G[layer.name])
    return {
        name: _direct_sum([Dense(total / N, shapes[name]) for total in totals])
        for name, totals in sums.items()
    }


@_undisturbed
def full_fisher(problem: Problem) -> FullFisher:
    """The Fisher of all layers together, cross-layer and cross-group blocks included.

    Dense and quadratic in all parameters: for a few thousand of them.
    """
    N = 0
    total = torch.zeros(())
    shapes: dict[str, tuple[int, int]] = {}
    for G in gradients(open_session(problem), CHUNK_BYTES):
        shapes = {name: (G_l.shape[2], G_l.shape[3]) for name, G_l in G.items()}
        side_by_side = torch.cat([G_l.flatten(2) for G_l in G.values()], 2)
        total = total.to(side_by_side) + sum_of_outer_products(side_by_side[:, :, None])
        N += len(side_by_side)
    return FullFisher(total / N, shapes)


@_undisturbed
def kfac(problem: Problem) -> dict[str, Kronecker | BlockDiagonal]:
    """B (x) A of every layer, under the problem's sharing."""
    factors = _factors(open_session(problem))
    return {name: _direct_sum([kronecker(f) for f in fs]) for name, fs in factors.items()}


@_undisturbed
def ekfac(problem: Problem) -> dict[str, EigenKronecker | BlockDiagonal]:
    """KFAC's eigenbasis of every layer, with Lambda the diagonal of F read in it.

    Two passes: factors and eigenbases, then eigenvalues. Memory does not depend on N.
    """
    session = open_session(problem)
    bases = {
        name: [(eigenbasis(f.g), eigenbasis(f.a)) for f in fs]
        for name, fs in _factors(session).items()
    }
    N = 0
    sums: ByGroup[torch.Tensor] = {}
    for batch, taps in tapped(session, CHUNK_BYTES):
        for name, by_group in taps.items():
            pairs = zip(by_group, bases[name], strict=True)
            squares = [squares_from_taps(t.a, t.g, Q_B, Q_A) for t, (Q_B, Q_A) in pairs]
            _accumulate(sums, name, squares, _plus)
        N += batch.size
    return {
        name: _direct_sum(
            [EigenKronecker(*Q, total / N) for Q, total in zip(bases[name], totals, strict=True)]
        )
        for name, totals in sums.items()
    }


def _factors(session: Session) -> ByGroup[Factors]:
    """The sums behind KFAC's factors, over one pass."""
    sharing = session.problem.sharing
    total: ByGroup[Factors] = {}
    for batch, taps in tapped(session, CHUNK_BYTES):
        for name, by_group in taps.items():
            rows = [sharing.rows(t.a, t.g, t.counted) for t in by_group]
            _accumulate(total, name, [chunk_factors(r, batch.size) for r in rows], add)
    for name, factors in total.items():
        if factors[0].rows_a == 0:
            raise ProblemError(
                f"layer {name!r}: the mask counts none of its positions in the whole data, so A is "
                "a mean over nothing; correct the mask (True = counts), or leave the layer out."
            )
    return total


def _accumulate(
    totals: ByGroup[Value], name: str, new: list[Value], plus: Callable[[Value, Value], Value]
) -> None:
    old = totals.get(name)
    totals[name] = new if old is None else [plus(x, y) for x, y in zip(old, new, strict=True)]


def _plus(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x.add_(y)  # x is a sum of this file's own


def _direct_sum(blocks: list[Block]) -> Block | BlockDiagonal:
    return blocks[0] if len(blocks) == 1 else BlockDiagonal(tuple(blocks))
