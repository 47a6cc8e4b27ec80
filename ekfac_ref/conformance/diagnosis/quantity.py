"""What of a subject is compared: its EKFAC, its KFAC, its exact blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation


@dataclass(frozen=True)
class Quantity:
    """One matrix of a block.

    Attributes:
        way: how a subject is asked for it.
        name: what it is called in a sentence.
        correct: the right one, [P, P], of what a block saw.
        has_a_basis: whether it depends on eigenvectors, which have to be determined then.
    """

    way: str
    name: str
    correct: Callable[[Observation], Tensor]
    has_a_basis: bool = False


EKFAC = Quantity("ekfac", "EKFAC", oracle.ekfac_matrix, has_a_basis=True)
KFAC = Quantity("kfac", "KFAC", lambda seen: torch.kron(*oracle.factors(seen)))
EXACT = Quantity("exact_fisher", "exact block", oracle.fisher)
QUANTITIES = (EKFAC, KFAC, EXACT)
