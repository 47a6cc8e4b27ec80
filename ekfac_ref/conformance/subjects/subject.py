"""The implementation on trial: anything that answers ``ekfac(problem)`` with {layer: operator}."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.errors import ProblemError
from ekfac_ref.question.problem import Problem

Answer = Mapping[str, Any]
Ask = Callable[[Problem], Answer]
_ByLayer = Mapping[str, Tensor]
Precondition = Callable[[Problem, dict[str, Tensor], float], _ByLayer]


@dataclass(frozen=True)
class Subject:
    """An implementation on trial.

    An operator answers at least ``matvec(V)`` for V shaped like [W | b]. What else it has decides
    which further laws are asked: ``solve(V, damping=)``; ``Q_B``, ``Q_A`` and ``eigenvalues``. One
    for several blocks (groups, or W and b apart) may have them as ``blocks``, group by group and
    the weight's before the bias's, each for V of its own shape; without, it is asked for products
    only.

    Attributes:
        name: how reports call it.
        ekfac: the EKFAC of a problem, {layer: operator}, the unit likelihood's and with 1/N
            (``notation.py``). Names are those of ``named_modules()``.
        kfac: the same for KFAC, if there is one.
        exact_fisher: the same for the exact blocks, if there is one.
        abilities: which problems may be drawn.
        precondition: (problem, {layer: V}, damping) to {layer: (E + damping I)^-1 V}, V and the
            answer of shape [d_out, d_in], E as ``ekfac`` answers it; if there is one. For those
            whose operators have no ``solve``, or who take another path when they solve.
        definition: which EKFAC it is, with the bias joint or apart, one A per group or for all.
    """

    name: str
    ekfac: Ask
    kfac: Ask | None = None
    exact_fisher: Ask | None = None
    abilities: Abilities = field(default_factory=Abilities)
    precondition: Precondition | None = None
    definition: Definition = field(default_factory=Definition)

    def __post_init__(self) -> None:
        if not isinstance(self.definition, Definition):
            raise ProblemError(
                f"definition: {self.definition!r} is of type {type(self.definition).__name__}; "
                "pass Definition(bias=Separate()), Definition(A=Shared()) or both."
            )

    def wrapped(self, wrap: Callable[[Ask], Ask]) -> "Subject":
        """A copy of the subject with something around every way to ask it."""
        return replace(
            self,
            ekfac=wrap(self.ekfac),
            kfac=self.kfac and wrap(self.kfac),
            exact_fisher=self.exact_fisher and wrap(self.exact_fisher),
            precondition=self.precondition and _wrapped(self.precondition, wrap),
        )


def _wrapped(precondition: Precondition, wrap: Callable[[Ask], Ask]) -> Precondition:
    """Given gradients and damping, it is a question about a problem like the others."""

    def ask(problem: Problem, gradients: dict[str, Tensor], damping: float) -> _ByLayer:
        return wrap(lambda given: precondition(given, gradients, damping))(problem)

    return ask


def as_subject(thing: Any, name: str) -> Subject:
    """A function of a problem, an object with methods of the names above, or a Subject as it is."""
    if isinstance(thing, Subject):
        return thing
    if callable(thing) and not hasattr(thing, "ekfac"):
        return Subject(name, thing, **_declared(thing))
    if not callable(getattr(thing, "ekfac", None)):
        raise ProblemError(
            f"subject {name!r}: a {type(thing).__name__} cannot be asked for anything; give a "
            "function from a Problem to {layer: operator}, or an object with such a method ekfac."
        )
    return Subject(
        name,
        thing.ekfac,
        kfac=getattr(thing, "kfac", None),
        exact_fisher=getattr(thing, "exact_fisher", None),
        precondition=getattr(thing, "precondition", None),
        **_declared(thing),
    )


def _declared(thing: Any) -> dict[str, Any]:
    return {what: getattr(thing, what) for what in _DECLARATIONS if hasattr(thing, what)}


_DECLARATIONS = ("abilities", "definition")
