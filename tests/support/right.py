"""A right subject that is cheap to ask, for tests in which being right is all that it is there for.

By the kit's own recipe, which observes a problem once for all ways to ask.
"""

from torch import Tensor

from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.question.problem import Problem


def _precondition(
    problem: Problem, gradients: dict[str, Tensor], damping: float
) -> dict[str, Tensor]:
    blocks = CORRECT.ekfac(problem)
    return {name: blocks[name].solve(V, damping=damping) for name, V in gradients.items()}


RIGHT = Subject(
    "right",
    CORRECT.ekfac,
    kfac=CORRECT.kfac,
    exact_fisher=CORRECT.exact_fisher,
    precondition=_precondition,
)
