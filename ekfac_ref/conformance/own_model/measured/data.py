"""A problem of the user's own, held in memory: copies of it, in other dtypes, a little moved."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.own_model.mistaken import of_the_users
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.copies.dtypes import inputs_in, model_in
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.question.batches import read
from ekfac_ref.question.inputs import on_tensors
from ekfac_ref.question.problem import Problem


def in_memory(problem: Problem) -> Problem:
    """The problem with its batches as a list, read once: whatever draws them, all see the same.

    Raises:
        ProblemError: it is none, not on the CPU, where all comparisons are made, or cannot be read.
    """
    device = next((p.device for p in problem.model.parameters()), torch.device("cpu"))
    if device.type != "cpu":
        raise ProblemError(
            f"model: it is on {device}, and comparisons are made in float64 on the CPU; "
            "pass a copy on the CPU, model.to('cpu') and its data, and let the subject move it."
        )
    advice = "read them, and call the mask on their inputs, without the kit to see where"
    with (
        undisturbed(problem.batches),
        of_the_users("batches: reading them, or their mask,", advice),
    ):
        return replace(problem, batches=[(b.inputs, b.targets) for b in read(problem)])


def duplicate(problem: Problem) -> Problem:
    """A problem in memory that the subject may do anything to."""
    return _with(problem, torch.clone)


def as_dtype(problem: Problem, dtype: torch.dtype) -> Problem:
    """A copy with every floating-point number in this dtype."""
    pairs = inputs_in([*problem.batches], dtype)
    return replace(problem, model=model_in(deep_copy(problem.model), dtype), batches=pairs)


def shaken(problem: Problem, ulps: float, seed: int) -> Problem:
    """A copy with every number of parameters and inputs moved by up to so many last places.

    By whole ones, in its own dtype, or not: a rounding more or less is as good an answer. Numbers
    of eight bits stay: they are stored so, and computed with in finer ones.
    """
    generator = torch.Generator().manual_seed(seed)

    def moved(x: Tensor) -> Tensor:
        if not x.is_floating_point() or x.itemsize == 1:
            return x.clone()
        steps = torch.randint(-1, 2, x.shape, generator=generator).double() * ulps
        return (x.double() * (1 + steps * torch.finfo(x.dtype).eps)).to(x.dtype)

    other = replace(_with(problem, torch.clone), batches=())
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.copy_(moved(parameter))
    pairs = [(on_tensors(moved, x), y) for x, y in problem.batches]
    return replace(other, batches=pairs)


def _with(problem: Problem, change: Callable[[Tensor], Tensor]) -> Problem:
    pairs = [(on_tensors(change, x), change(y)) for x, y in problem.batches]
    return replace(problem, model=deep_copy(problem.model), batches=pairs)
