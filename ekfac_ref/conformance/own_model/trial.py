"""One subject on a problem of the user's own: asked once, then judged part by part."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.own_model.laws.examined import Examined, Inverted
from ekfac_ref.conformance.own_model.laws.of_solutions import dampings_of_all
from ekfac_ref.conformance.own_model.measured.data import as_dtype, duplicate, in_memory
from ekfac_ref.conformance.own_model.measured.measure import Measured, measure
from ekfac_ref.conformance.own_model.measured.parts import OwnPart, parts_of
from ekfac_ref.conformance.own_model.measured.room import check_room
from ekfac_ref.conformance.own_model.measured.spread import with_spread
from ekfac_ref.conformance.own_model.measured.sums import chunks
from ekfac_ref.conformance.own_model.measured.trying import try_in_all_dtypes
from ekfac_ref.conformance.own_model.mistaken import as_mistakes
from ekfac_ref.conformance.subjects.drawn import check_not_drawn
from ekfac_ref.conformance.subjects.matrices import as_expected, checked, extent, own_blocks
from ekfac_ref.conformance.subjects.own import Own, Together
from ekfac_ref.conformance.subjects.snapshot import differences, snapshot
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.errors import ProblemError, enough_memory
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.model.refusals.beforehand import check_model
from ekfac_ref.question.problem import Problem

ASKED = ("ekfac", "kfac", "precondition")  # of the ways to ask, those that need no P x P
ONE_BY_ONE = 32  # gradients G_nc, at most, that E is multiplied with one by one


@dataclass(frozen=True)
class Given:
    """A problem of the user's own as a trial takes it.

    Attributes:
        problem: with its batches in memory.
        parts: of all layers, in their order.
    """

    problem: Problem
    parts: dict[str, list[OwnPart]]

    @property
    def all_parts(self) -> list[OwnPart]:
        """The parts of every layer, one after the other."""
        return [part for of_layer in self.parts.values() for part in of_layer]


class OwnTrial:
    """The answers of a subject on one problem, next to what is right.

    Args:
        subject: on trial; only the ways in ASKED are used.
        problem: any; it is read once, and the subject gets copies.
        seed: of the random vectors.
        name: of the problem, in messages on it; "" for none.

    Attributes:
        changes: a line for everything that the subject changed while it answered.
    """

    def __init__(self, subject: Subject, problem: Problem, seed: int = 0, name: str = "") -> None:
        ways = [way for way in subject.ways if way in ASKED]
        if not ways:
            raise ProblemError(
                f"subject {subject.name!r}: it has {', '.join(subject.ways)}, and layers of any "
                f"size are judged by {', '.join(ASKED)}; give one of these, with operators that "
                "answer matvec(V), or ask it on drawn problems: ekfac-ref check without --problem."
            )
        self.subject, self.seed = subject.offering(ways), seed
        self.changes: list[str] = []
        self._name = name
        with as_mistakes(name):
            check_model(problem.model)
            check_not_drawn(self.subject, problem)
            if lack := subject.abilities.lacks(problem):
                raise ProblemError(
                    f"it has {lack}: {subject.name!r} would be held to what it says that it "
                    "cannot do. Pose another one, or declare that it can."
                )
            held = in_memory(problem)
            self.given = Given(held, parts_of(held, subject.definition))
            check_room(self.given.all_parts)

    def measured(self, tick: Callable[[], None] = lambda: None) -> list[Measured]:
        """What is right, of every part; ``tick`` is called after every pass over the data.

        Raises:
            MistakenProblem: there is no right answer.
        """
        with undisturbed(), as_mistakes(self._name), enough_memory():
            try_in_all_dtypes(self.given.problem)
            known = measure(self.given.problem, self.given.all_parts, tick)
            return with_spread(as_dtype(self.given.problem, torch.float64), known, tick)

    def examined(self, known: Sequence[Measured]) -> list[Examined]:
        """Every part with the subject's answers about it."""
        how = self.subject.definition.damping
        found = [Examined(one, self.seed + i, damping=how) for i, one in enumerate(known)]
        for way, ask in self.subject.operators.items():
            answer = self._asked(ask, way)
            for one, own in zip(found, self._operators(answer), strict=True):
                if way == "ekfac":
                    one.E = own
                else:
                    one.K = own
        self._look_at_gradients(found)
        if self.subject.precondition is not None:
            self._precondition(found)
        return found

    def _asked(self, ask: Callable[..., Any], method: str, *given: Any) -> Mapping[str, Any]:
        problem = duplicate(self.given.problem)
        before = snapshot(problem.model, problem.batches)
        try:
            answer = ask(problem, *given)
        finally:
            after = snapshot(problem.model, problem.batches)
            self.changes += [f"{method}, {line}" for line in differences(before, after)]
        return as_expected(answer, method, self.given.parts, self.subject.definition)

    def _operators(self, answer: Mapping[str, Any]) -> Iterator[Own]:
        """The operator of every part."""
        for name, parts in self.given.parts.items():
            together = self._together(name, answer[name]) if len(parts) > 1 else None
            for part, own in zip(parts, own_blocks(answer[name], parts), strict=True):
                yield Own(own, part.title, part.shape, together)

    def _together(self, layer: str, operator: Any) -> Together:
        shape, problem = extent(self.given.parts[layer]), self.given.problem
        V = torch.randn(shape, generator=torch.Generator().manual_seed(self.seed))
        return Together(Own(operator, layer, shape), V.to(algebra_dtype(problem.dtype)))

    def _look_at_gradients(self, found: list[Examined]) -> None:
        """One pass with the answers at hand: Lambda in the bases that they show, and tr E F."""
        bases = [
            one.E.basis()[:2] if one.E is not None and one.E.shows_its_basis else None
            for one in found
        ]
        few = [one.E is not None and one.known.columns <= ONE_BY_ONE for one in found]
        if not any(few) and all(basis is None for basis in bases):
            return
        exact = as_dtype(self.given.problem, torch.float64)
        squares = [torch.zeros(()).double() for _ in bases]
        inner = [0.0 for _ in found]
        with undisturbed():
            for several in chunks(exact, self.given.all_parts):
                for i, (one, chunk) in enumerate(zip(found, several, strict=True)):
                    if (Q := bases[i]) is not None:
                        squares[i] = squares[i] + chunk.rotated(*Q).square().sum((0, 1))
                    if few[i]:
                        inner[i] += _inner(one, chunk.gradients())
        for i, one in enumerate(found):
            N = one.known.samples
            one.in_own_basis = None if bases[i] is None else squares[i] / N
            one.inner = inner[i] / N if few[i] else None

    def _precondition(self, found: list[Examined]) -> None:
        """At a few dampings, for random vectors of all layers at once."""
        assert self.subject.precondition is not None
        shapes = {name: extent(parts) for name, parts in self.given.parts.items()}
        generator = torch.Generator().manual_seed(self.seed)
        V = {
            name: torch.randn(shape, generator=generator).to(found[0].known.algebra)
            for name, shape in shapes.items()
        }
        for damping in dampings_of_all(found):
            given = {name: x.clone() for name, x in V.items()}
            answer = self._asked(self.subject.precondition, "precondition", given, damping)
            for name, x in V.items():
                if name not in given or not torch.equal(given[name], x):
                    self.changes.append(f"precondition, gradients of {name!r}: changed")
            solved = {
                name: checked(name, "precondition", answer[name], "for gradients of", shape)
                for name, shape in shapes.items()
            }
            for one in found:
                part = one.known.part
                V_part, x_part = (part.of(of[part.layer]).double() for of in (V, solved))
                one.inverted.append(Inverted(damping, V_part, x_part))


def _inner(one: Examined, G: Tensor) -> float:
    """sum_nc <G_nc, E G_nc> over these gradients."""
    assert one.E is not None
    total = 0.0
    for each in G.flatten(0, 1):
        product = one.E.matvec(each.to(one.known.algebra))
        total += float((each * product.double()).sum())
    return total
