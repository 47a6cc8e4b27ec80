"""Mistakes in what is answered at all: answers where an exception is due."""

import copy
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.question.problem import Problem


def _in_eval_mode(problem: Problem) -> dict[str, Any]:
    return CORRECT.ekfac(replace(problem, model=copy.deepcopy(problem.model).eval()))


def _known_layers_only(problem: Problem) -> dict[str, Any]:
    """Of the names asked for; all layers where none is left."""
    here = dict(problem.model.named_modules())
    known = tuple(name for name in problem.layers or () if name in here)
    return CORRECT.ekfac(replace(problem, layers=known or None))


def _without_nan(problem: Problem) -> dict[str, Any]:
    def numbers(x: Tensor) -> Tensor:
        return x.nan_to_num() if x.dtype.is_floating_point else x

    model = copy.deepcopy(problem.model)
    for parameter in model.parameters():
        parameter.data = numbers(parameter.data)
    batches = [tree_map(numbers, tuple(batch)) for batch in problem.batches]
    return CORRECT.ekfac(replace(problem, model=model, batches=batches))


SILENCE = (
    Mutant(
        name="nan-taken-for-zero",
        mistake="takes NaN for zero (right: raises an exception)",
        story="nan_to_num, put in against a training run that broke off; the answer is then that "
        "to another question.",
        ekfac=_without_nan,
        laws=("nan",),
        only="NaN in the data",
    ),
    Mutant(
        name="batch-norm-in-eval-mode",
        mistake="answers for a model in train mode as if it were in eval mode (right: refuses, "
        "since its samples depend on one another)",
        story="nngeometry@6c3aee0, backpack#160 and Laplace#18 came to raise an error instead.",
        ekfac=_in_eval_mode,
        laws=("batch norm",),
        only="BatchNorm in train mode",
    ),
    Mutant(
        name="unknown-layers-ignored",
        mistake="passes over layers that it cannot find (right: raises an exception)",
        story="A name that no hook is registered for is never missed; in kfac-pytorch#267 it was "
        "only when its factors were due.",
        ekfac=_known_layers_only,
        laws=("unknown layer",),
        only="a name that the model does not have",
    ),
)
