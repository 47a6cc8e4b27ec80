r"""Where the two halves meet: a problem in, {layer: operator} out.

Every function reads the data in one pass (``ekfac`` in two), adds up chunks of samples, and divides
by N at the end. All of them raise a ProblemError for a problem that has no right answer, and change
nothing of the caller's. A grouped layer gets a BlockDiagonal with one block per group.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import TypeVar

import torch

from ekfac_ref.errors import ProblemError, enough_memory
from ekfac_ref.matrix.basis import basis_of
from ekfac_ref.matrix.fisher import FullFisher, sum_of_outer_products
from ekfac_ref.matrix.kfac import FactorSums, add, chunk_factors, kronecker
from ekfac_ref.matrix.lookup import LookupEigenKronecker, LookupKronecker
from ekfac_ref.matrix.operators import BlockDiagonal, Dense, EigenKronecker, Kronecker, direct_sum
from ekfac_ref.model.gradients import Gradients, gradients
from ekfac_ref.model.random_state import generators, interleaved, undisturbed
from ekfac_ref.model.session import Session, open_for_gradients, open_session
from ekfac_ref.model.taps import Tap, tapped
from ekfac_ref.question.batches import CHUNK_BYTES
from ekfac_ref.question.one_hot import OneHot
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Reduce, Sharing

Value = TypeVar("Value")
LARGEST_OF_BAGS = 16_384  # words: A has 2 GiB in float64
ByGroup = dict[str, list[Value]]


def _undisturbing(compute: Callable[[Problem], Value]) -> Callable[[Problem], Value]:
    @wraps(compute)
    def computed(problem: Problem) -> Value:
        with undisturbed(problem.batches), enough_memory():
            return compute(problem)

    return computed


@torch.inference_mode(False)
@torch.no_grad()
def per_sample_gradients(problem: Problem) -> Iterator[Gradients]:
    """G_nc of every layer, one chunk of consecutive samples after another.

    Yields {layer: [n, C, d_out, d_in]}, gradients of <f_n, s_nc> with respect to [W | b] for the
    unit likelihood; no factor of N. Rows of a grouped layer are stacked group by group. Chunks
    follow the order of the data and hold about CHUNK_BYTES at most.

    Of whatever parameter, used in whatever way (``find_parameters``): where no layer covers it, it
    is a row vector under its own name, [n, C, 1, entries]; a weight that an embedding and a head
    share has the sum over both uses.
    """
    with enough_memory():
        chunks = gradients(open_for_gradients(problem), CHUNK_BYTES)
        yield from interleaved(chunks, *generators(problem.batches))


@_undisturbing
def exact_fisher(problem: Problem) -> dict[str, Dense | BlockDiagonal]:
    """F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T of every layer, from explicit gradients.

    Of whatever parameter, as ``per_sample_gradients``. Dense: quadratic in a layer's parameters.
    """
    session = open_for_gradients(problem)
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
        name: direct_sum([Dense(total / N, shapes[name]) for total in totals])
        for name, totals in sums.items()
    }


@_undisturbing
def full_fisher(problem: Problem) -> FullFisher:
    """The Fisher of all layers together, cross-layer and cross-group blocks included.

    Dense and quadratic in all parameters: for a few thousand of them.
    """
    N = 0
    total = torch.zeros((), device="cpu")
    shapes: dict[str, tuple[int, int]] = {}
    for G in gradients(open_for_gradients(problem), CHUNK_BYTES):
        shapes = {name: (G_l.shape[2], G_l.shape[3]) for name, G_l in G.items()}
        side_by_side = torch.cat([G_l.flatten(2) for G_l in G.values()], 2)
        total = total.to(side_by_side) + sum_of_outer_products(side_by_side[:, :, None])
        N += len(side_by_side)
    return FullFisher(total / N, shapes)


@_undisturbing
def kfac(problem: Problem) -> dict[str, Kronecker | LookupKronecker | BlockDiagonal]:
    """B (x) A of every layer, under the problem's sharing.

    Of an Embedding with a large vocabulary, A is not written out (``matrix/lookup.py``).
    """
    factors = _factors(open_session(problem))
    return {name: direct_sum([kronecker(f) for f in fs]) for name, fs in factors.items()}


@_undisturbing
def ekfac(problem: Problem) -> dict[str, EigenKronecker | LookupEigenKronecker | BlockDiagonal]:
    """KFAC's eigenbasis of every layer, with Lambda the diagonal of F read in it.

    Two passes: factors and eigenbases, then eigenvalues. Memory does not depend on N. In the basis
    of an Embedding the input side is that of the words that occur (``matrix/words.py``).
    """
    session = open_session(problem)
    bases = {name: [basis_of(f) for f in fs] for name, fs in _factors(session).items()}
    N = 0
    sums: ByGroup[torch.Tensor] = {}
    for samples, taps in tapped(session, CHUNK_BYTES):
        for name, by_group in taps.items():
            pairs = zip(by_group, bases[name], strict=True)
            squares = [Q.squares(t.inputs, t.g) for t, Q in pairs]
            _accumulate(sums, name, squares, _plus)
        N += samples
    return {
        name: direct_sum(
            [Q.operator(total / N) for Q, total in zip(bases[name], totals, strict=True)]
        )
        for name, totals in sums.items()
    }


def _factors(session: Session) -> ByGroup[FactorSums]:
    """The sums behind KFAC's factors, over one pass."""
    sharing = session.problem.sharing
    total: ByGroup[FactorSums] = {}
    for samples, taps in tapped(session, CHUNK_BYTES):
        for name, by_group in taps.items():
            for t in by_group:
                _check_bags(name, t, sharing)
            rows = [sharing.rows(t.inputs, t.g, t.counted) for t in by_group]
            _accumulate(total, name, [chunk_factors(r, samples) for r in rows], add)
    for name, factors in total.items():
        if factors[0].rows_a == 0:
            raise ProblemError(
                f"layer {name!r}: the mask counts none of its positions in all the data, or there "
                "is none, so A is a mean over nothing; correct the mask (True = counts) or the "
                "data, or leave the layer out."
            )
    return total


def _check_bags(name: str, tap: Tap, sharing: Sharing) -> None:
    """Raise a ProblemError for a large A that Reduce makes of what is diagonal under Expand."""
    d, T = (tap.inputs.size, tap.g.shape[2]) if isinstance(tap.inputs, OneHot) else (0, 0)
    if isinstance(sharing, Reduce) and T > 1 and d > LARGEST_OF_BAGS:
        raise ProblemError(
            f"layer {name!r}: under Reduce() its A is the second moment of bags of words, {d} x "
            f"{d} and not diagonal; choose sharing=Expand(), under which it is, or leave the layer "
            "out by naming the others in Problem(layers=...)."
        )


def _accumulate(
    totals: ByGroup[Value], name: str, new: list[Value], plus: Callable[[Value, Value], Value]
) -> None:
    old = totals.get(name)
    totals[name] = new if old is None else [plus(x, y) for x, y in zip(old, new, strict=True)]


def _plus(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x.add_(y)  # x is a sum of this file's own
