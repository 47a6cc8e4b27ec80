"""The implementation on trial: whatever of an EKFAC, a KFAC or a Fisher somebody has."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.training.steps import Optimize, followed, retold
from ekfac_ref.errors import ProblemError
from ekfac_ref.question.problem import Problem

Answer = Mapping[str, Any]
Ask = Callable[[Problem], Answer]
_ByLayer = Mapping[str, Tensor]
Precondition = Callable[[Problem, dict[str, Tensor], float], _ByLayer]

FisherProduct = Callable[[Problem, dict[str, Tensor]], _ByLayer]

# Every way to ask a subject: for operators, for tensors, and with vectors that it is given.
OPERATORS = ("ekfac", "kfac", "exact_fisher")
TENSORS = ("diagonal", "per_sample_gradients")
SAMPLED = ("sampled_ekfac", "sampled_kfac", "sampled_fisher")  # operators, of labels of its own
WAYS = (*OPERATORS, "precondition", *TENSORS, "fisher_product", "optimizer", *SAMPLED)


@dataclass(frozen=True)
class Subject:
    """An implementation on trial.

    An operator answers at least ``matvec(V)`` for V shaped like [W | b]. What else it has decides
    which further laws are asked: ``solve(V, damping=)``; ``Q_B``, ``Q_A`` and ``eigenvalues``. One
    for several blocks (groups, or W and b apart) may have them as ``blocks``, group by group and
    the weight's before the bias's, each for V of its own shape; without, it is asked for products
    and solutions only, as a whole and block by block.

    It has one of the ``WAYS`` to ask it at least. What it does not have is not judged, and reports
    say so.

    Attributes:
        name: how reports call it.
        ekfac: the EKFAC of a problem, {layer: operator}, the unit likelihood's and with 1/N
            (``notation.py``). Names are those of ``named_modules()``.
        kfac: KFAC's blocks B (x) A in that form. One that shows its factors as ``B`` and ``A`` has
            them judged, too.
        exact_fisher: the exact blocks F in that form.
        abilities: which problems may be drawn.
        precondition: (problem, {layer: V}, damping) to {layer: (M + damping I)^-1 V}, V and the
            answer of shape [d_out, d_in]. M is the subject's own E, or K, or F, the first of these
            that it shows; of one that shows none, it is an EKFAC. For those whose operators have no
            ``solve``, or who take another path when they solve.
        definition: which EKFAC it is, with the bias joint or apart, one A per group or for all, the
            projections of torch's attention packed or not; and how KFAC is damped.
        diagonal: the diagonal of the exact blocks, {layer: [d_out, d_in]}.
        per_sample_gradients: {layer: [N, C, d_out, d_in]}, the G_nc in the order of the data,
            whatever their columns c; or such dicts one after the other, for N in chunks.
        fisher_product: (problem, {layer: V}) to {layer: [d_out, d_in]}, the product with the Fisher
            of all layers together, blocks between layers included.
        optimizer: (problem, settings) to a generator that trains the problem's model, one step on
            each of its batches in turn, by the gradient of the batch's mean loss, and yields after
            every step. What it goes by is declared in ``definition.training``.
        sampled_ekfac, sampled_kfac, sampled_fisher: like those without ``sampled_``, of a problem
            whose ``fisher`` is ``Sampled(draws)``, with labels that the subject draws for itself,
            from whatever generator: these have no values to compare, and are judged by chance
            (docs/laws.md).
    """

    name: str
    ekfac: Ask | None = None
    kfac: Ask | None = None
    exact_fisher: Ask | None = None
    abilities: Abilities = field(default_factory=Abilities)
    precondition: Precondition | None = None
    definition: Definition = field(default_factory=Definition)
    diagonal: Ask | None = None
    per_sample_gradients: Callable[[Problem], Any] | None = None
    fisher_product: FisherProduct | None = None
    optimizer: Optimize | None = None
    sampled_ekfac: Ask | None = None
    sampled_kfac: Ask | None = None
    sampled_fisher: Ask | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.definition, Definition):
            raise ProblemError(
                f"definition: {self.definition!r} is of type {type(self.definition).__name__}; "
                "pass Definition(bias=Separate()), Definition(A=Shared()) or others of its choices."
            )
        if not self.ways:
            raise ProblemError(
                f"subject {self.name!r}: there is no way to ask it anything; give one or more of "
                f"{', '.join(WAYS)}."
            )

    @property
    def ways(self) -> tuple[str, ...]:
        """The names of those of the ``WAYS`` that it has."""
        return tuple(way for way in WAYS if getattr(self, way) is not None)

    @property
    def operators(self) -> dict[str, Ask]:
        """{way: how to ask for {layer: operator}}, of those that it has."""
        return {way: getattr(self, way) for way in self.ways if way in OPERATORS}

    @property
    def sampled(self) -> dict[str, Ask]:
        """{way: how to ask for {layer: operator}}, of those whose labels it draws for itself."""
        return {way: getattr(self, way) for way in self.ways if way in SAMPLED}

    @property
    def tensors(self) -> dict[str, Ask]:
        """{way: how to ask for {layer: tensor}}, of those that it has."""
        return {way: _joining(getattr(self, way)) for way in self.ways if way in TENSORS}

    def offering(self, ways: Collection[str]) -> "Subject":
        """A copy of the subject that has no other ways to ask it than these."""
        others: dict[str, Any] = {way: None for way in WAYS if way not in ways}
        return replace(self, **others)

    def wrapped(self, wrap: Callable[[Ask], Ask]) -> "Subject":
        """A copy of the subject with something around every way to ask it."""
        asks = {**self.operators, **self.sampled, **self.tensors}
        around: dict[str, Any] = {way: wrap(ask) for way, ask in asks.items()}
        for way in set(self.ways) - set(asks) - {"optimizer"}:
            around[way] = _wrapped(getattr(self, way), wrap)
        if self.optimizer is not None:
            around["optimizer"] = _all_steps(self.optimizer, wrap)
        return replace(self, **around)


def _wrapped(product: Callable[..., _ByLayer], wrap: Callable[[Ask], Ask]) -> Any:
    """Given vectors, and damping, it is a question about a problem like the others."""

    def ask(problem: Problem, *given: Any) -> Answer:
        return wrap(lambda problem: product(problem, *given))(problem)

    return ask


def _all_steps(optimizer: Optimize, wrap: Callable[[Any], Any]) -> Optimize:
    """All its steps are one question; what has come of them is told step by step afterwards."""

    def optimize(problem: Problem, settings: Hyperparameters) -> Iterator[None]:
        def ask(problem: Problem) -> Any:
            return followed(optimizer, problem, settings)

        found = wrap(ask)(problem)
        yield from retold(problem, found)

    return optimize


def _joining(ask: Callable[[Problem], Any]) -> Ask:
    """{layer: tensor}, out of such dicts for one chunk of samples after the other."""

    def answer(problem: Problem) -> Answer:
        found = ask(problem)
        if isinstance(found, Iterator):
            chunks = list(found)
            return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        return found

    return answer


def as_subject(thing: Any, name: str) -> Subject:
    """A function, which is an ekfac; an object with methods named in WAYS; a Subject as it is."""
    if isinstance(thing, Subject):
        return thing
    ways = {way: getattr(thing, way) for way in WAYS if callable(getattr(thing, way, None))}
    if callable(thing) and not ways:
        return Subject(name, thing, **_declared(thing))
    if not ways:
        raise ProblemError(
            f"subject {name!r}: a {type(thing).__name__} cannot be asked for anything; give a "
            "function from a Problem to {layer: operator}, or an object with such a method ekfac, "
            f"or with one of the others: {', '.join(WAYS[1:])}."
        )
    return Subject(name, **ways, **_declared(thing))


def _declared(thing: Any) -> dict[str, Any]:
    return {what: getattr(thing, what) for what in _DECLARATIONS if hasattr(thing, what)}


_DECLARATIONS = ("abilities", "definition")
