r"""Where the two halves meet: a problem in, {layer: operator} out.

Every function reads the data in one pass (``ekfac`` in two), adds up chunks of samples, and divides
by N at the end. All of them raise a ProblemError for a problem that has no right answer, and change
nothing of the caller's. A grouped layer gets a BlockDiagonal with one block per group.
"""

from collections.abc import Callable, Iterator
from functools import wraps

import torch

from ekfac_ref.errors import enough_memory
from ekfac_ref.matrix.fisher import FullFisher, sum_of_outer_products
from ekfac_ref.matrix.operators import BlockDiagonal, Dense, direct_sum
from ekfac_ref.model.gradients import Gradients, gradients, gradients_in_runs
from ekfac_ref.model.random_state import generators, interleaved, undisturbed, untouched
from ekfac_ref.model.session import open_for_gradients, open_session
from ekfac_ref.model.tapped import TappedData
from ekfac_ref.passes import (
    ByGroup,
    EigenKroneckers,
    Kroneckers,
    Value,
    accumulate,
    eigenbases,
    eigenkroneckers,
    factor_sums,
    kroneckers,
    of_all_data,
    plus,
    square_sums,
)
from ekfac_ref.question.batches import CHUNK_BYTES
from ekfac_ref.question.problem import Problem


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
        own = generators(problem.batches)
        with untouched(*own):
            session = open_for_gradients(problem)
        yield from interleaved(gradients(session, CHUNK_BYTES), *own)


@_undisturbing
def exact_fisher(problem: Problem) -> dict[str, Dense | BlockDiagonal]:
    """F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T of every layer, from explicit gradients.

    Of whatever parameter, as ``per_sample_gradients``. Dense: quadratic in a layer's parameters.
    """
    session = open_for_gradients(problem)
    N = 0
    sums: ByGroup[torch.Tensor] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for samples, G in gradients_in_runs(session, CHUNK_BYTES):
        for layer in session.layers:
            by_group = G[layer.name].chunk(layer.groups, 2)
            shapes[layer.name] = (by_group[0].shape[2], by_group[0].shape[3])
            accumulate(sums, layer.name, [sum_of_outer_products(G_k) for G_k in by_group], plus)
        N += samples
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
    for samples, G in gradients_in_runs(open_for_gradients(problem), CHUNK_BYTES):
        shapes = {name: (G_l.shape[2], G_l.shape[3]) for name, G_l in G.items()}
        side_by_side = torch.cat([G_l.flatten(2) for G_l in G.values()], 2)
        total = total.to(side_by_side) + sum_of_outer_products(side_by_side[:, :, None])
        N += samples
    return FullFisher(total / N, shapes)


@_undisturbing
def kfac(problem: Problem) -> Kroneckers:
    """B (x) A of every layer, under the problem's sharing.

    Of an Embedding with a large vocabulary, A is not written out (``matrix/lookup.py``).
    """
    return kroneckers(of_all_data(factor_sums(TappedData(open_session(problem)))))


@_undisturbing
def ekfac(problem: Problem) -> EigenKroneckers:
    """KFAC's eigenbasis of every layer, with Lambda the diagonal of F read in it.

    Two passes: factors and eigenbases, then eigenvalues; data that fits into one chunk is gone
    through once, and kept. Memory does not depend on N. In the basis of an Embedding the input side
    is that of the words that occur (``matrix/words.py``).
    """
    data = TappedData(open_session(problem))
    bases = eigenbases(of_all_data(factor_sums(data)))
    return eigenkroneckers(bases, *square_sums(data, bases))
