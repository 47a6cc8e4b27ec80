"""What a mutant is: a correct implementation with one mistake, and the story of that mistake.

Where many of a file have the same laws, or show on the same problems, these stand once, in a
``partial`` of ``Mutant`` above them.
"""

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, OnKFAC
from ekfac_ref.conformance.mutants.inverses import inverting
from ekfac_ref.conformance.mutants.recipe import Around, Recipe
from ekfac_ref.conformance.mutants.sampler import Sampler
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.subject import (
    SAMPLED,
    Ask,
    FisherProduct,
    Precondition,
    Subject,
)
from ekfac_ref.conformance.training.steps import Optimize
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Mutant:
    """One mistake, as the catalogue has it: ``MUTANTS["half-lambda"]``, say.

    Attributes:
        name: stable, in kebab-case; what reports and the catalogue call it: "half-lambda".
        mistake: wrong, and right, in one sentence: "has a factor 1/2 in front of Lambda (right:
            none)". It completes "it looks as if the implementation ...".
        story: where it happens or has happened, in a sentence or two; public issues and commits by
            their name: "logix#44, where it mattered through the damping only."
        ekfac: the implementation, a function from a problem to {layer: operator}; the right one
            where the mistake is in another matrix.
        laws: names of laws that must notice it, at least one whose statement explains the mistake:
            ("eigenvalues", "trace"). None for an equivalent mutant.
        only: problems it can show on, in words, where that is not "almost any": "N > 1".
        proof: why no law can notice it, for an equivalent mutant; else "".
        kfac: a function like ``ekfac``, of a mistake in the KFAC blocks; else it offers none.
        exact_fisher: one of a mistake in the exact blocks; else it offers none.
        optimizer: of a mistake between updates; it is then all that the subject offers.
        definition: what the subject declares, of its training say.
        sampler: of a mistake in drawing labels; its three ways are then all that the subject
            offers.
    """

    name: str
    mistake: str
    story: str
    ekfac: Ask
    laws: tuple[str, ...]
    only: str = ""
    proof: str = ""
    kfac: Ask | None = None
    exact_fisher: Ask | None = None
    optimizer: Optimize | None = None
    definition: Definition = field(default_factory=Definition)
    sampler: Sampler | None = None

    @property
    def subject(self) -> Subject:
        """To put it on trial. One that remembers begins anew, and knows nothing of the others."""
        name = f"mutant {self.name}"
        if self.optimizer is not None:
            trains = copy.deepcopy(self.optimizer)
            return Subject(name, optimizer=trains, definition=self.definition)
        if self.sampler is not None:
            ways: dict[str, Any] = {way: getattr(self.sampler, way) for way in SAMPLED}
            return Subject(name, definition=self.definition, **ways)
        asks = copy.deepcopy((self.ekfac, self.kfac, self.exact_fisher))
        return Subject(name, *asks, definition=self.definition)

    @property
    def only_reads(self) -> bool:
        """Whether it is made of steps, each of which leaves the problem and random states alone."""
        return isinstance(getattr(self.ekfac, "__self__", None), Recipe)

    @property
    def in_every_way(self) -> Subject:
        """The subject, with all else that a mistake on the way to E leads to.

        Its KFAC, its exact blocks, a ``precondition`` by the solve of its E, and what is made of
        its gradients. For whoever is compared with them. One
        that is not made of such steps has no other ways than it has.
        """
        subject = self.subject
        steps = getattr(subject.ekfac, "__self__", None)
        if not isinstance(steps, Recipe | Around):
            return subject
        of_blocks = getattr(subject.exact_fisher, "__self__", steps)
        return replace(
            subject,
            kfac=subject.kfac or steps.kfac,
            exact_fisher=of_blocks.exact_fisher,
            precondition=_by_solve(steps.ekfac),
            diagonal=_squares(of_blocks.sample_gradients),
            per_sample_gradients=of_blocks.sample_gradients,
            fisher_product=_by_gradients(of_blocks.sample_gradients),
        )

    def inverting(self, how: Damping) -> Ask:
        """A way to ask for operators whose ``solve`` it is: its inverse of E, or of KFAC."""
        subject = self.subject
        if subject.kfac is not None and isinstance(how, OnKFAC):
            return subject.kfac
        steps = getattr(subject.ekfac, "__self__", None)
        known = isinstance(steps, Recipe | Around)
        return inverting(steps, how) if known else self.ekfac  # type: ignore[arg-type]


def _squares(gradients: Ask) -> Ask:
    return lambda problem: {name: (G**2).sum(1).mean(0) for name, G in gradients(problem).items()}


def _by_gradients(gradients: Ask) -> FisherProduct:
    def product(problem: Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
        G = gradients(problem)
        inner = [torch.einsum("ncoi,oi->nc", G[name], X.double()) for name, X in V.items()]
        size = torch.stack(inner).sum(0) / len(inner[0])
        return {name: torch.einsum("nc,ncoi->oi", size, G[name]) for name in V}

    return product


def _by_solve(ekfac: Ask) -> Precondition:
    def precondition(
        problem: Problem, gradients: dict[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        blocks = ekfac(problem)
        return {name: blocks[name].solve(V, damping=damping) for name, V in gradients.items()}

    return precondition
