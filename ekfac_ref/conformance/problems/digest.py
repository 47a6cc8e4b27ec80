"""Whether two runs asked about the same problems, in a few letters."""

import hashlib
from collections.abc import Iterable
from math import isfinite, pi

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ekfac_ref.conformance.problems.designed.batching import held, loader_options
from ekfac_ref.question.problem import Problem

# Numbers are told to a step of 1/3142. It is irrational, so that none that comes of a few roots
# and fractions lies halfway between two steps, where its last digit would decide.
STEPS = 1000 * pi


def digest(problems: Iterable[Problem]) -> str:
    """Twelve letters that tell lists of problems apart: models, choices, data, and their order.

    Of every number the first digits count, which are the same on all processors: draws that are
    equal up to rounding have one digest.
    """
    found = hashlib.sha256()
    for problem in problems:
        modules = [
            (name, type(m).__name__, _options(m)) for name, m in problem.model.named_modules()
        ]
        choices = (problem.likelihood, problem.fisher, problem.sharing, problem.layers)
        masked = problem.mask is not None
        found.update(repr((modules, choices, masked, loader_options(problem.batches))).encode())
        for name, parameter in problem.model.named_parameters(remove_duplicate=False):
            found.update(f"{name} {_numbers(parameter)}".encode())
        for name, buffer in problem.model.named_buffers():
            found.update(f"{name} {_numbers(buffer)}".encode())
        for pair in held(problem.batches):
            values, structure = tree_flatten(tuple(pair))
            kinds = [type(v).__name__ for v in values]
            found.update(f"{len(values)} {kinds} {structure.num_leaves}".encode())
            for value in values:
                found.update(_numbers(value).encode())
    return found.hexdigest()[:12]


def _options(module: nn.Module) -> list[tuple[str, object]]:
    """Stride, groups and the like; how torch prints a module differs from version to version."""
    plain = (bool, int, float, str, tuple)
    public = [(name, value) for name, value in vars(module).items() if not name.startswith("_")]
    return sorted((name, value) for name, value in public if isinstance(value, plain))


def _numbers(x: Tensor) -> str:
    values = x.detach().double().flatten().tolist()
    steps = [round(v * STEPS) if isfinite(v) else v for v in values]
    return f"{x.dtype} {tuple(x.shape)} {steps}"
