"""A subject's optimizer, asked to train: its steps looked at before a law sees them."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.snapshot import differences, own_states, snapshot
from ekfac_ref.conformance.training.steps import Optimize, followed
from ekfac_ref.question.problem import Problem

_ITS_OWN = ("module", "parameter", "buffer", "torch rng")  # what training may change


def trained(
    optimizer: Optimize, given: Problem, settings: Hyperparameters
) -> tuple[list[dict[str, Tensor]], list[str]]:
    """The parameters before and after every step; and a line for what else was changed."""
    with own_states():
        before = snapshot(given.model, given.batches)
        values = followed(_checked(optimizer), given, settings)
        after = snapshot(given.model, given.batches)
    changes = [
        f"optimizer, {line}" for line in differences(before, after) if not line.startswith(_ITS_OWN)
    ]
    frozen = [name for name, p in given.model.named_parameters() if not p.requires_grad]
    changes += [
        f"optimizer, parameter {name!r}: frozen, and changed"
        for name in frozen
        if any(not torch.equal(values[0][name], x[name]) for x in values[1:])
    ]
    steps = len([*given.batches])
    if len(values) != steps + 1:
        raise BadAnswer(
            f"optimizer yielded {len(values) - 1} times for {steps} batches; take one step on each "
            "of problem.batches, and yield after every step"
        )
    if not all(bool(torch.isfinite(x).all()) for x in values[-1].values()):
        raise BadAnswer("optimizer: its steps lead to parameters that are NaN or infinite")
    return values, changes


def _checked(optimizer: Optimize) -> Optimize:
    def optimize(problem: Problem, settings: Hyperparameters) -> Iterable[object]:
        steps = optimizer(problem, settings)
        if not isinstance(steps, Iterable):
            raise BadAnswer(
                f"optimizer returned a {type(steps).__name__}; make it a generator that trains "
                "problem.model, one step on each of problem.batches, and yields after every step"
            )
        return steps

    return optimize
