"""The preconditioners after one update are put on trial like any other implementation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.findings.verdicts import Status
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.optim import EKFACPreconditioner, KFACPreconditioner

Make = Callable[..., Any]


def joined(parts: list[Any]) -> Any:
    """The batches' inputs, or targets, as one."""
    if isinstance(parts[0], dict):
        return {key: joined([part[key] for part in parts]) for key in parts[0]}
    if isinstance(parts[0], tuple):
        return tuple(joined(list(xs)) for xs in zip(*parts, strict=True))
    return torch.cat(parts)


def updated(make: Make, problem: ek.Problem) -> Any:
    """By one update on all samples."""
    preconditioner = make(
        problem.model,
        problem.likelihood,
        fisher=problem.fisher,
        sharing=problem.sharing,
        layers=problem.layers,
        mask=problem.mask,
    )
    inputs, targets = zip(*problem.batches, strict=True)
    preconditioner.update(joined(list(inputs)), joined(list(targets)))
    return preconditioner


def ask(make: Make) -> Callable[[ek.Problem], Any]:
    return lambda problem: updated(make, problem).operators


def precondition(
    problem: ek.Problem, V: Mapping[str, Tensor], damping: float
) -> Mapping[str, Tensor]:
    """By way of the parameters' own shapes."""
    preconditioner = updated(EKFACPreconditioner, problem)
    gradients: dict[str, Tensor] = {}
    for layer in preconditioner.layers:
        gradients |= layer.from_matrix(V[layer.name])
    found = preconditioner.precondition(gradients, damping)
    return {layer.name: layer.to_matrix(found) for layer in preconditioner.layers}


def test_it_conforms() -> None:
    subject = Subject(
        "preconditioner",
        ask(EKFACPreconditioner),
        kfac=ask(KFACPreconditioner),
        precondition=precondition,
    )
    report = Run(Here(subject), Profile("few", 6, 0.0)).report()
    broken = {v.law.name for v in report.verdicts if v.status is Status.FAIL}
    assert not broken, report.summary
    assert not report.troubles, report.troubles
    assert not report.refused, report.refused
    asked = {v.law.name for v in report.verdicts if v.status is Status.PASS}
    assert {"precondition", "trace", "eigenvalues", "leaves alone"} <= asked, asked
