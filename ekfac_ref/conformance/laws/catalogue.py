"""Every law that a subject is asked, in the order in which reports list them."""

from collections.abc import Mapping
from types import MappingProxyType

from ekfac_ref.conformance.laws import (
    of_a_case,
    of_a_failure,
    of_a_matrix,
    of_a_preconditioner,
    of_a_trial,
    of_draws,
    of_tensors,
    of_two_answers,
)
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.laws.replays import above_noise
from ekfac_ref.conformance.laws.training import of_training

_LAWS: tuple[Law, ...] = (
    of_a_case.linear,
    of_a_case.own_answers,
    of_a_matrix.symmetry,
    of_a_matrix.positive_semidefinite,
    of_a_matrix.trace,
    of_a_matrix.commutes,
    of_a_matrix.moments,
    of_a_matrix.self_projection,
    of_a_case.pythagoras,
    of_a_matrix.majorisation,
    of_a_case.kernel,
    of_a_case.exactness,
    of_a_case.comparison,
    *of_two_answers.UNCHANGED,
    of_a_trial.no_memory,
    of_a_trial.leaves_alone,
    of_a_failure.after_an_exception,
    *of_a_trial.REFUSALS,
    of_a_case.basis_is_orthonormal,
    of_a_case.basis_diagonalizes_the_factors,
    of_a_case.eigenvalues_are_the_diagonal,
    of_a_case.solve_small,
    of_a_case.solve_1,
    of_a_case.kfac_block,
    of_a_case.kfac_factors,
    of_a_case.exact_block,
    of_a_trial.preconditions,
    *of_a_preconditioner.PRECONDITIONS,
    *of_tensors.TENSOR_LAWS,
    *of_training.TRAINING_LAWS,
    *of_draws.DRAW_LAWS,
)

# Names of laws that are asked of layers of any size alone (``own_model``).
ASKED_AT_ANY_SIZE = ("spectrum", "solve")

LAWS: Mapping[str, Law] = MappingProxyType({law.name: above_noise(law) for law in _LAWS})
