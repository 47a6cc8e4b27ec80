r"""KFAC and EKFAC of the data of all ranks, which is nowhere in one place.

    N A = sum_r N_r A_r,   N B = sum_r N_r B_r,   N Lambda = sum_r N_r Lambda_r  in one basis

(of A, the numbers of rows stand for N). The engine is that of one process (``passes.py``): a rank
sums over its own data, sums and counts are added over ranks, and every rank divides by the counts
of all. Means of means would be wrong for uneven shards, and so would be a sum of Lambdas that were
each measured in a rank's own eigenbasis.
"""

from dataclasses import replace

import torch.distributed as dist

from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.model.session import open_session
from ekfac_ref.model.tapped import TappedData
from ekfac_ref.passes import (
    EigenKroneckers,
    Kroneckers,
    eigenkroneckers,
    kroneckers,
    of_all_data,
)
from ekfac_ref.question.columns import Sampled
from ekfac_ref.question.problem import Problem
from ekfac_ref.sharded.eigenproblems import shared_bases
from ekfac_ref.sharded.ranks import Ranks
from ekfac_ref.sharded.same_question import check_same_question
from ekfac_ref.sharded.totals import (
    bare_weights_of_all,
    samples_before,
    total_factors,
    total_squares,
)


def kfac_of_shards(problem: Problem, group: "dist.ProcessGroup | None" = None) -> Kroneckers:
    """B (x) A of every layer, B = (1/N) sum over gradient rows and A = mean over input rows of all.

    Args:
        problem: of this rank: model, likelihood, Fisher, sharing and layers as on the other ranks,
            and its own batches, which may be none.
        group: of ``torch.distributed``, whose ranks hold the data; the default, None, is all.

    Returns:
        {layer: operator}, on every rank; of the unit likelihood, over the N samples of all ranks.
        A is [d_in, d_in] and B [d_out, d_out], as of ``ekfac_ref.kfac``.

    Raises:
        ProblemError: the problem has no right answer, or another rank failed, for whatever reason:
            then on all ranks, and the others say which one. What else fails on this rank comes
            through as it is. Where a process has died or hangs, torch.distributed raises.
    """
    ranks = Ranks.of(group)
    with undisturbed(problem.batches):
        data = _opened(ranks, problem, "kfac")
        return kroneckers(of_all_data(total_factors(ranks, data)))


def ekfac_of_shards(problem: Problem, group: "dist.ProcessGroup | None" = None) -> EigenKroneckers:
    """KFAC's eigenbasis of all data, with Lambda the diagonal of F read in it, of every layer.

        Lambda_oi = (1/N) sum over ranks r, samples n of r, columns c of [Q_B^T G_nc Q_A]_oi^2

    Of every layer one rank solves the eigenproblems, and sends the eigenvectors to the others. Args
    and errors are those of ``kfac_of_shards``.

    Returns:
        {layer: operator}, on every rank, in one basis; of the unit likelihood, over the N samples
        of all ranks. Q_A and Q_B are square, also where the data has fewer rows than they.
    """
    ranks = Ranks.of(group)
    with undisturbed(problem.batches):
        data = _opened(ranks, problem, "ekfac")
        bases = shared_bases(ranks, of_all_data(total_factors(ranks, data)))
        return eigenkroneckers(bases, *total_squares(ranks, data, bases))


def _opened(ranks: Ranks, problem: Problem, function: str) -> TappedData:
    """This rank's problem, if it is a part of one that all have."""
    check_same_question(ranks, problem, function)
    if isinstance(problem.fisher, Sampled):
        fisher = problem.fisher
        before = fisher.before + samples_before(ranks, problem)
        problem = replace(problem, fisher=replace(fisher, before=before))
    bare = bare_weights_of_all(ranks, problem)
    return ranks.together(lambda: TappedData(open_session(problem, bare=bare)))[0]
