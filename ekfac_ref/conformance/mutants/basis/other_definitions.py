"""What is a mistake only as long as it is not declared: an EKFAC of another definition."""

from dataclasses import replace

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.subjects.definition import Definition, Separate, Shared

OTHER_DEFINITIONS = (
    Mutant(
        name="weight-and-bias-uncoupled",
        mistake="takes W and b for two blocks, each with a basis of its own (right: [W | b] is one "
        "matrix; where two are meant, declare Definition(bias=Separate()))",
        story="Most libraries that began without biases. KFAC on W is the same, EKFAC is not.",
        ekfac=replace(CORRECT, definition=Definition(bias=Separate())).ekfac,
        laws=("commutes",),
        only="a bias",
    ),
    Mutant(
        name="one-A-for-all-groups",
        mistake="has one A for all groups of a convolution (right: one for each; where one is "
        "meant, declare Definition(A=Shared()))",
        story="A grouped convolution treated like any other: its patches are averaged over groups.",
        ekfac=replace(CORRECT, definition=Definition(A=Shared())).ekfac,
        laws=("commutes", "eigenbasis"),
        only="a convolution with groups",
    ),
)
