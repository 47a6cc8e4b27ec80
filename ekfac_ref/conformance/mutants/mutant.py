"""What a mutant is: a correct implementation with one mistake, and the story of that mistake.

Where many of a file have the same laws, or show on the same problems, these stand once, in a
``partial`` of ``Mutant`` above them.
"""

import copy
from dataclasses import dataclass, replace

from torch import Tensor

from ekfac_ref.conformance.mutants.recipe import Around, Recipe
from ekfac_ref.conformance.subjects.subject import Ask, Precondition, Subject
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

    @property
    def subject(self) -> Subject:
        """To put it on trial. One that remembers begins anew, and knows nothing of the others."""
        asks = copy.deepcopy((self.ekfac, self.kfac, self.exact_fisher))
        return Subject(f"mutant {self.name}", *asks)

    @property
    def in_every_way(self) -> Subject:
        """The subject, with the KFAC and the exact blocks that a mistake on the way to E leads to.

        And with a ``precondition`` by the solve of its E. For whoever is compared with them. One
        that is not made of such steps has no other ways than it has.
        """
        subject = self.subject
        steps = getattr(subject.ekfac, "__self__", None)
        if not isinstance(steps, Recipe | Around):
            return subject
        return replace(
            subject,
            kfac=subject.kfac or steps.kfac,
            exact_fisher=subject.exact_fisher or steps.exact_fisher,
            precondition=_by_solve(steps.ekfac),
        )


def _by_solve(ekfac: Ask) -> Precondition:
    def precondition(
        problem: Problem, gradients: dict[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        blocks = ekfac(problem)
        return {name: blocks[name].solve(V, damping=damping) for name, V in gradients.items()}

    return precondition
