"""Observations of problems seen before, found by content: the kit says a lot about the same one."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ekfac_ref.conformance.truth.observation import Observations, observe
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Content:
    """A problem that equals every problem with the same model, data and choices.

    For the kit's own problems, whose modules hold nothing that their ``repr``, parameters and
    buffers do not tell.

    Attributes:
        digest: of all that.
        problem: held on to, for the mask is told by its id.
    """

    digest: bytes
    problem: Problem = field(compare=False)


def content(problem: Problem) -> Content:
    """The problem as a key to what is known of it."""
    return Content(_digest(problem), problem)


def observed(problem: Problem) -> Observations:
    """``observe(problem)``, looked up where an equal problem was observed before.

    Whoever gets an observation must not write to it.
    """
    return dict(_observed(content(problem), rounding=True))


def observed_exactly(problem: Problem) -> Observations:
    """``observe(problem, rounding=False)``, looked up like ``observed``."""
    return dict(_observed(content(problem), rounding=False))


@lru_cache(maxsize=2048)
def _observed(known: Content, rounding: bool) -> Observations:
    return observe(known.problem, rounding)


def _digest(problem: Problem) -> bytes:
    model = problem.model
    digest = hashlib.blake2b()
    choices = (problem.likelihood, problem.fisher, problem.sharing, problem.layers)
    modules = [(name, type(module), module.training) for name, module in model.named_modules()]
    flags = [(name, p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)]
    digest.update(repr((model, choices, modules, flags, id(problem.mask))).encode())
    tensors = [*model.parameters(), *model.buffers()]
    for batch in problem.batches:
        digest.update(b"batch")
        tensors.extend(tree_leaves(tuple(batch)))
        _add(digest, tensors)
        tensors = []
    return digest.digest()


def _add(digest: "hashlib.blake2b", tensors: list[Tensor]) -> None:
    for x in tensors:
        digest.update(repr((x.dtype, tuple(x.shape))).encode())
        # A copy: a single number may have any stride, and then no other view.
        numbers = x.detach().flatten().clone(memory_format=torch.contiguous_format)
        digest.update(bytes(numbers.view(torch.uint8).numpy()))
