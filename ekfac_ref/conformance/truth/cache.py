"""Observations of problems seen before, found by content: the kit says a lot about the same one."""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_structure

from ekfac_ref.conformance.truth.observation import ExactModel, Observations, observe
from ekfac_ref.model.random_state import undisturbed
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


def observed_otherwise(problem: Problem, changed: Problem) -> Observations:
    """``observe(changed, rounding=False)``, where that is another question on the same inputs.

    For likelihoods of a kind that is not worth remembering.
    """
    return observe(changed, rounding=False, opened=_opened(_on_inputs(problem)))


@lru_cache(maxsize=2048)
def _observed(known: Content, rounding: bool) -> Observations:
    return observe(known.problem, rounding, _opened(_on_inputs(known.problem)))


def _on_inputs(problem: Problem) -> Content:
    """A key to what is known of the model on its inputs, whatever is asked about them."""
    digest = hashlib.blake2b()
    choices = (problem.layers, id(problem.mask), id(problem.output))
    digest.update(repr((problem.model, choices, *_modules(problem.model))).encode())
    _add(digest, [*problem.model.parameters(), *problem.model.buffers()])
    with undisturbed(problem.batches):
        for inputs, _ in problem.batches:
            digest.update(f"batch {tree_structure(inputs)}".encode())
            _add(digest, tree_leaves(inputs))
    return Content(digest.digest(), problem)


@lru_cache(maxsize=256)
def _opened(known: Content) -> ExactModel:
    return ExactModel(known.problem)


def _modules(model: nn.Module) -> tuple[object, object]:
    modules = [(name, type(module), module.training) for name, module in model.named_modules()]
    flags = [(name, p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)]
    return modules, flags


def _digest(problem: Problem) -> bytes:
    model = problem.model
    digest = hashlib.blake2b()
    choices = (problem.likelihood, problem.fisher, problem.sharing, problem.layers)
    digest.update(repr((model, choices, *_modules(model), id(problem.mask))).encode())
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
