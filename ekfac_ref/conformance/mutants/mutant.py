"""What a mutant is: a correct EKFAC with one mistake, and the story of that mistake."""

from dataclasses import dataclass

from ekfac_ref.conformance.subject import Ask, Subject


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: stable, in kebab-case; what reports and the catalogue call it.
        mistake: wrong, and right, in one sentence: "squares every position, then sums (right: sums
            over positions, then squares)". It completes "it looks as if the implementation ...".
        story: where it happens or has happened, in a sentence or two; public issues by their name,
            like curvlinops#108.
        ekfac: the implementation.
        laws: names of laws that must notice it; at least one whose statement explains the mistake.
        only: problems it can show on, in words, where that is not "almost any".
        proof: why no law can notice it, for an equivalent mutant; else "".
    """

    name: str
    mistake: str
    story: str
    ekfac: Ask
    laws: tuple[str, ...]
    only: str = ""
    proof: str = ""

    @property
    def subject(self) -> Subject:
        """To put it on trial."""
        return Subject(f"mutant {self.name}", self.ekfac)
