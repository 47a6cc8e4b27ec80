"""Subjects to try the kit on: ``ekfac-ref check ekfac_ref.examples:NAME``."""

from dataclasses import replace

import torch
from torch import Tensor

import ekfac_ref
from ekfac_ref import conformance as ct
from ekfac_ref.examples.hooks import hooks
from ekfac_ref.examples.notebook import notebook, notebook_columns
from ekfac_ref.question.problem import Problem

__all__ = ["hooks", "notebook", "notebook_columns", "reference", "reference_float32"]


def _precondition(
    problem: Problem, gradients: dict[str, Tensor], damping: float
) -> dict[str, Tensor]:
    blocks = ekfac_ref.ekfac(problem)
    return {name: blocks[name].solve(V, damping=damping) for name, V in gradients.items()}


reference = ct.Subject(
    "reference",
    ekfac_ref.ekfac,
    kfac=ekfac_ref.kfac,
    exact_fisher=ekfac_ref.exact_fisher,
    precondition=_precondition,
)
reference_float32 = replace(
    reference, name="reference in float32", abilities=ct.Abilities(dtypes=(torch.float32,))
)
