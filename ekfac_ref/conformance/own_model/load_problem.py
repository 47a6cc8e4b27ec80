"""A problem of the user's own by its name, as the command takes it."""

import importlib

from ekfac_ref.conformance.run.raised import message
from ekfac_ref.errors import ProblemError, among
from ekfac_ref.question.problem import Problem


def load_problem(path: str) -> Problem:
    """The problem at ``package.module:name``, or what a function there returns.

    Raises:
        ProblemError: nothing is there, its module cannot be imported, or it is no problem.
    """
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise ProblemError(
            f"problem {path!r}: no module and name in it; write it as package.module:name."
        )
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise ProblemError(
            f"problem {path!r}: {module} cannot be imported ({message(error)}); "
            "run from the folder that holds it, or install it."
        ) from error
    if not hasattr(found, attribute):
        there = [name for name in vars(found) if not name.startswith("_")]
        raise ProblemError(
            f"problem {path!r}: {module} has no {attribute!r}; {among(there, attribute)}."
        )
    problem = getattr(found, attribute)
    if callable(problem):
        try:
            problem = problem()
        except Exception as error:
            raise ProblemError(
                f"problem {path!r}: it raised {message(error)}; it is called without arguments, "
                "and returns an ekfac_ref.Problem(model, batches, likelihood)."
            ) from error
    if not isinstance(problem, Problem):
        raise ProblemError(
            f"problem {path!r}: a {type(problem).__name__}; make it an ekfac_ref.Problem(model, "
            "batches, likelihood), or a function without arguments that returns one."
        )
    return problem
