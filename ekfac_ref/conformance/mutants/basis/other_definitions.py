"""What is a mistake only as long as it is not declared: an EKFAC of another definition."""

from typing import Any

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.subjects.definition import Definition, Separate, Shared
from ekfac_ref.conformance.subjects.placed import put_together
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.question.problem import Problem


def _as_defined(definition: Definition) -> Ask:
    """The right answer of that definition."""

    def ekfac(problem: Problem) -> dict[str, Any]:
        blocks = definition.blocks(problem, observed_exactly(problem))
        return {
            name: put_together([CORRECT.block(block.seen) for block in several], several)
            for name, several in blocks.items()
        }

    return ekfac


OTHER_DEFINITIONS = (
    Mutant(
        name="weight-and-bias-uncoupled",
        mistake="takes W and b for two blocks, each with a basis of its own (right: [W | b] is one "
        "matrix; where two are meant, declare Definition(bias=Separate()))",
        story="Most libraries that began without biases. KFAC on W is the same, EKFAC is not.",
        ekfac=_as_defined(Definition(bias=Separate())),
        laws=("commutes",),
        only="a bias",
    ),
    Mutant(
        name="one-A-for-all-groups",
        mistake="has one A for all groups of a convolution (right: one for each; where one is "
        "meant, declare Definition(A=Shared()))",
        story="A grouped convolution treated like any other: its patches are averaged over groups.",
        ekfac=_as_defined(Definition(A=Shared())),
        laws=("commutes", "eigenbasis"),
        only="a convolution with groups",
    ),
)
