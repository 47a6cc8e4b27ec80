"""A problem of the user's own tried as it is, before anything is computed of it."""

import copy

import torch

from ekfac_ref.conformance.own_model.measured.data import as_dtype
from ekfac_ref.conformance.own_model.mistaken import of_the_users
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import call
from ekfac_ref.model.session import open_session
from ekfac_ref.question.problem import Problem


def try_in_all_dtypes(problem: Problem) -> None:
    """Run the model as it is, and in the other dtypes in which the kit will compute with it.

    Raises:
        ProblemError: one of these runs fails; what fails in none is the kit's from there on.
    """
    with of_the_users("model: copy.deepcopy(model)", "every subject is given a copy; allow one"):
        copy.deepcopy(problem.model)
    _try(problem)
    fine = problem.dtype is torch.float64
    other = torch.float32 if fine else torch.float64
    try:
        _try(as_dtype(problem, other))
    except ProblemError as error:
        raise ProblemError(
            f"model: it runs in {problem.dtype}, and fails as model.to({other}) on data alike, "
            f"{'where rounding is measured' if fine else 'in which what is right is computed'} "
            f"({error}) - let its forward follow the dtype of its weights, instead of one that is "
            "written down."
        ) from error


def _try(problem: Problem) -> None:
    """On the first batch of every form as any implementation would, then on all others."""
    session = open_session(problem)
    for batch, _ in session.batches():
        advice = "call it on that batch alone to see where"
        with of_the_users(f"model: its forward, on the batch at sample {batch.first},", advice):
            call(session.model, batch.inputs)
