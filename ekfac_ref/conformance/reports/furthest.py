"""The layer that is furthest off where a law is broken, in numbers: what a picture shows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.subjects.answered import Case
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import eigengaps, oracle


@dataclass(frozen=True, eq=False)
class Furthest:
    """What is expected of one layer, and what the subject answers.

    Attributes:
        layer: its name.
        name: of the matrix, E, K or F.
        expected, got: that matrix, [P, P] in float64.
        one_of_several: whether eigenvalues are so close that others are as right as the expected.
    """

    layer: str
    name: str
    expected: Tensor
    got: Tensor
    one_of_several: bool


def furthest(subject: Subject, problem: Written, lane: Lane) -> Furthest:
    """The layer with the largest difference, of the matrix that the lane is about."""
    found = [_compared(case, lane) for case in Trial(subject, problem.rebuilt, watch=False).cases]
    shown = [one for one in found if one is not None]
    if not shown:
        raise BadAnswer("no block's matrix is known of it on this problem")
    return max(shown, key=lambda one: float((one.got - one.expected).norm()))


def _compared(case: Case, lane: Lane) -> Furthest | None:
    """Of the matrix that the lane is about, or else of the first that the subject has."""
    of_lane = {Lane.KFAC: case.K, Lane.FACTORS: case.K, Lane.FISHER: case.F}.get(lane)
    M = of_lane or next(iter(case.operators), case.inverted)
    if M is None:
        return None
    if M is case.K:
        return Furthest(case.layer, "K", torch.kron(*oracle.factors(M.seen)), M.matrix, False)
    if M is case.F:
        return Furthest(case.layer, "F", oracle.fisher(M.seen), M.matrix, False)
    close = eigengaps.gap(M.seen) < eigengaps.GATE
    return Furthest(case.layer, "E", oracle.ekfac_matrix(M.seen), M.matrix, close)
