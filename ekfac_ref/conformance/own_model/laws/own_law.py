"""What a law is where no matrix can be written down: a question to one part, and what it weighs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf

import torch
from torch import Tensor

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import ALGEBRA, Lane, Law
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.truth.tolerance import MISTAKE, LawBroken


class Beyond(LawBroken):
    """A law that does not hold, and by how much in relation to what is compared.

    Attributes:
        size: the residual over the size of that; inf where there is none.
    """

    def __init__(self, what: str, ratio: float, size: float) -> None:
        super().__init__(what, ratio)
        self.size = size


@dataclass(frozen=True)
class Weighed:
    """A residual in units of rounding, and the smallest relative error that would be a mistake."""

    ratio: float
    notices: float


Judge = Callable[[Examined], Iterator[Weighed]]


@dataclass(frozen=True)
class OwnLaw:
    """A law as it is asked where matrices cannot be written down.

    Attributes:
        law: its name, lane and statement.
        judge: yields what there is to say of one part, and raises LawBroken.
        offered: whether the subject has what it takes.
    """

    law: Law
    judge: Judge
    offered: Callable[[Examined], bool]


def _shows(lane: Lane) -> Callable[[Examined], bool]:
    """Whether an answer has what the laws of a lane need."""
    return {
        Lane.OPAQUE: lambda one: bool(one.operators),
        Lane.EKFAC: lambda one: one.E is not None,
        Lane.BASIS: lambda one: one.E is not None and one.E.shows_its_basis,
        Lane.KFAC: lambda one: one.K is not None,
        Lane.FACTORS: lambda one: one.K is not None and one.K.shows_its_factors,
        Lane.SOLVE: lambda one: any(M.solves for _, M, _ in one.operators),
        Lane.PRECONDITION: lambda one: bool(one.inverted),
    }[lane]


def as_own_law(name: str, lane: Lane) -> Callable[[Judge], OwnLaw]:
    """For a function of one part; its docstring begins with the statement.

    A law of the small problems keeps its name, its source and its lane in reports.
    """

    def law(judge: Judge) -> OwnLaw:
        says = (judge.__doc__ or "").partition("\n")[0]
        known = LAWS.get(name) or Law(name, lane, says, ALGEBRA, lambda trial: (), judge)
        return OwnLaw(replace(known, statement=says, formula=judge), judge, _shows(lane))

    return law


def norm(x: Tensor) -> float:
    """The Frobenius norm, in float64."""
    return float(torch.linalg.vector_norm(x.double()))


def weigh(law: str, residual: float, rounding: float, size: float, free: float = 0.0) -> Weighed:
    """The residual over what rounding may do; LawBroken where that is a MISTAKE.

    Args:
        law: what the message begins with.
        residual: zero, but for rounding.
        rounding: what right answers may be off by, as a standard deviation is.
        size: of what the residual is a part of; 0 where that is nothing.
        free: so much of the residual is no rounding and no mistake: two right answers may be that
            far apart.
    """
    rounding = max(rounding, torch.finfo(torch.float32).tiny)
    ratio = 0.0 if residual <= free else (residual - free) / rounding
    if not ratio <= MISTAKE:  # a NaN breaks every law
        part = f" ({residual / size:.2g} of the whole)" if size > 0 else ""
        raise Beyond(
            f"{law}: residual {residual:.3g}{part} is {ratio:.3g} times rounding (limit "
            f"{MISTAKE:g})",
            ratio,
            residual / size if size > 0 else inf,
        )
    return Weighed(ratio, (free + MISTAKE * rounding) / size if size > 0 else 0.0)
