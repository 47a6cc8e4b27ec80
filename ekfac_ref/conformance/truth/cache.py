"""Observations of problems seen before, found by content: a kit asks a lot about the same one."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ekfac_ref.conformance.truth.observation import Observation, glance, observe
from ekfac_ref.question.problem import Problem

Seen = dict[str, list[Observation]]
CAPACITY = 1024

_Memory = OrderedDict[bytes, tuple[Problem, Seen]]
_observed: _Memory = OrderedDict()
_glanced: _Memory = OrderedDict()


def remembered(problem: Problem) -> Seen:
    """``observe(problem)``, looked up where an equal problem was observed before.

    For the kit's own problems, whose modules hold nothing that their ``repr``, parameters and
    buffers do not tell. Whoever gets an observation must not write to it.
    """
    return _looked_up(problem, observe, _observed)


def glanced(problem: Problem) -> Seen:
    """The same for ``glance(problem)``."""
    return _looked_up(problem, glance, _glanced)


def _looked_up(problem: Problem, see: Callable[[Problem], Seen], memory: _Memory) -> Seen:
    key = digest(problem)
    if key not in memory:
        memory[key] = (problem, see(problem))  # holds on to the mask, whose id is in the key
        if len(memory) > CAPACITY:
            memory.popitem(last=False)
    return dict(memory[key][1])


def digest(problem: Problem) -> bytes:
    """The same for equal problems of the kit."""
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
