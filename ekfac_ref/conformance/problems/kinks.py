"""Where a ReLU opens or closes by rounding: there is no one gradient, and no right answer.

A sum that cancels to zero in one order of summation leaves a rounding in another, and the gradient
goes through or does not. Such draws are none.
"""

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.problems.changed import jittered
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.forward import call
from ekfac_ref.question.problem import Problem

JITTERS = 16  # each of which opens half of what could be open
_NEAR = 1e3  # roundings of the largest input, within which one may cross zero


def at_a_kink(problem: Problem) -> bool:
    """Whether some input of a ReLU changes its sign by rounding alone.

    A zero that comes of zeros, where the data have a feature that is always zero, is no such one.
    In bfloat16 nearly all are, and its laws allow for that (``replays.py``).
    """
    if problem.dtype is torch.bfloat16 or not _relus(problem.model):
        return False
    here = _inputs(problem)
    eps = torch.finfo(problem.dtype).eps
    if not any(bool((x.abs() <= _NEAR * eps * x.abs().amax()).any()) for x in here if x.numel()):
        return False
    moved = (_inputs(jittered(problem, seed)) for seed in range(JITTERS))
    return any(
        not torch.equal(x > 0, y > 0) for there in moved for x, y in zip(here, there, strict=True)
    )


def _relus(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.ReLU)]


def _inputs(problem: Problem) -> list[Tensor]:
    """Of all ReLUs, for all batches."""
    model, found = deep_copy(problem.model), list[Tensor]()
    for module in _relus(model):
        module.register_forward_pre_hook(lambda _, given: found.append(given[0].clone()))
    with torch.no_grad():
        for inputs, _ in problem.batches:
            call(model, inputs)
    return found
