"""Mistakes in Lambda: the eigenvalues that EKFAC measures in KFAC's basis."""

from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.observation import Observation


def _square_each_position(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """(1/N) sum_nct (g^T Q_B)^2 (a^T Q_A)^2."""
    terms = [
        torch.einsum("cto,ti->oi", (g @ Q_B) ** 2, (a @ Q_A) ** 2)
        for g, a in zip(seen.g, seen.a, strict=True)
    ]
    return torch.stack(terms).sum(0) / len(seen.g)


EIGENVALUES = (
    Mutant(
        name="square-each-position",
        mistake="squares every position and then sums (right: sums over positions, then squares)",
        story="The shorter einsum; the same wherever every column lives at one position.",
        ekfac=replace(CORRECT, eigenvalues=_square_each_position).ekfac,
        laws=("eigenvalues", "trace"),
        only="T > 1, with a column spread over positions",
    ),
)
