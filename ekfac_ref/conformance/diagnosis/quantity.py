"""What of a subject is compared: its OF_EKFAC, its OF_KFAC, its exact blocks, what it inverts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Tikhonov
from ekfac_ref.conformance.subjects.answered import Case
from ekfac_ref.conformance.subjects.preconditioned import WRITTEN_OUT
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation


def _shown(case: Case, damping: float) -> Tensor:
    return case.operators[0].matrix


def _inverted(case: Case, damping: float) -> Tensor:
    """P^-1 - d I, of a preconditioner as the kit has it, or by the solve of a mutant's E."""
    if case.E is None:
        return case.inverted.matrix if case.inverted is not None else torch.zeros(0)
    E, P = case.E, len(case.E.matrix)
    units = torch.eye(P, dtype=E.seen.algebra).reshape(P, *E.shape)
    columns = [E.own.solve(V.clone(), damping=damping).double().reshape(-1) for V in units]
    unit = torch.eye(P, dtype=torch.float64)
    return torch.linalg.inv(torch.stack(columns, 1)) - damping * unit


def _diagonal(case: Case, damping: float) -> Tensor:
    """As a matrix, of a subject's diagonal or a mutant's block."""
    if case.diagonal is not None:
        return case.diagonal.reshape(-1).diag()
    return case.operators[0].matrix.diagonal().diag()


@dataclass(frozen=True)
class Quantity:
    """One matrix of a block.

    Attributes:
        way: how a subject is asked for it.
        name: what it is called in a sentence.
        correct: the right one, [P, P], of what a block saw.
        given: what a subject has for it, of its answers about a block and the damping at which the
            kit asks preconditioners.
        has_a_basis: whether it depends on eigenvectors, which have to be determined then.
        of_a_mutant: how a mutant is asked for it.
        largest: so many parameters the largest layer may have, for it takes as many questions.
    """

    way: str
    name: str
    correct: Callable[[Observation], Tensor]
    given: Callable[[Case, float], Tensor] = _shown
    has_a_basis: bool = False
    of_a_mutant: str = ""
    largest: float = inf


OF_EKFAC = Quantity("ekfac", "EKFAC", oracle.ekfac_matrix, has_a_basis=True)
OF_KFAC = Quantity("kfac", "KFAC", lambda seen: torch.kron(*oracle.factors(seen)))
OF_EXACT = Quantity("exact_fisher", "exact block", oracle.fisher)
OF_INVERTED = Quantity(
    *(
        "precondition",
        "preconditioner",
        oracle.ekfac_matrix,
        _inverted,
        True,
        "ekfac",
        float(WRITTEN_OUT),
    )
)


OF_DIAGONAL = Quantity(
    "diagonal",
    "diagonal",
    lambda seen: oracle.fisher(seen).diagonal().diag(),
    _diagonal,
    of_a_mutant="exact_fisher",
)
OF_GRADIENTS = replace(OF_DIAGONAL, way="per_sample_gradients", name="sum of squared gradients")


def compared_of(subject: Subject) -> tuple[Quantity, ...]:
    """What of the subject is compared; of a preconditioner that is no EKFAC's, nothing is."""
    if subject.operators:
        return tuple(one for one in (OF_EKFAC, OF_KFAC, OF_EXACT) if one.way in subject.operators)
    if subject.tensors:
        return tuple(one for one in (OF_DIAGONAL, OF_GRADIENTS) if one.way in subject.tensors)
    ekfacs = isinstance(subject.definition.damping, Tikhonov)
    return (OF_INVERTED,) if ekfacs and subject.precondition is not None else ()
