"""The scalar between a torch loss and its likelihood, from the counts of all ranks."""

import torch.distributed as dist
from torch import nn

from ekfac_ref.losses import check_of_problem, count_terms, scale_by_counts
from ekfac_ref.question.batches import NoBatches
from ekfac_ref.question.problem import Problem
from ekfac_ref.sharded.ranks import Ranks
from ekfac_ref.sharded.same_question import check_same_question


def loss_scale_of_shards(
    loss: nn.Module, problem: Problem, group: "dist.ProcessGroup | None" = None
) -> float:
    """The scalar that turns operators of ``sharded`` into those of the loss over all ranks' data.

    As ``ekfac_ref.loss_scale``, with N samples and loss terms, or counted labels, summed over
    ranks: a mean loss divides by the labels of all data, which no rank knows from its own. The
    loss must be the same on all ranks. Errors are those of ``sharded.kfac``.
    """
    ranks = Ranks.of(group)
    called = f"loss_scale of a {type(loss).__name__} by {getattr(loss, 'reduction', None)}"

    def own() -> tuple[int, int]:
        check_of_problem(loss, problem)
        try:
            return count_terms(problem)
        except NoBatches:
            return 0, 0

    check_same_question(ranks, problem, called)
    _, counts = ranks.together(own, lambda counted: counted)
    N, terms = (sum(of_rank) for of_rank in zip(*counts, strict=True))
    if N == 0:
        raise NoBatches
    return scale_by_counts(loss, problem, N, terms)
