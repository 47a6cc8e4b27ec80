"""A problem of the user's own by its name, as the command takes it."""

from ekfac_ref.conformance.own_model.mistaken import (
    MistakenProblem,
    as_mistakes,
    of_the_users,
)
from ekfac_ref.conformance.run.load import standing_at
from ekfac_ref.conformance.run.raised import message
from ekfac_ref.errors import ProblemError
from ekfac_ref.question.problem import Problem


def load_problem(path: str) -> Problem:
    """The problem at ``package.module:name``, or what a function there returns.

    Raises:
        MistakenProblem: nothing is there, its module cannot be imported, or it is no problem.
    """
    with as_mistakes():
        advice = "put what ends the process under if __name__ == '__main__'"
        with of_the_users(f"problem {path!r}: its module", advice):
            problem = standing_at(path, "problem")
    if callable(problem):
        try:
            problem = problem()
        except ProblemError as error:
            raise MistakenProblem(f"problem {path!r}: {error}") from error
        except (Exception, SystemExit) as error:
            raise MistakenProblem(
                f"problem {path!r}: it raised {message(error)}; it is called without arguments, "
                "and returns an ekfac_ref.Problem(model, batches, likelihood)."
            ) from error
    if not isinstance(problem, Problem):
        raise MistakenProblem(
            f"problem {path!r}: a {type(problem).__name__}; make it an ekfac_ref.Problem(model, "
            "batches, likelihood), or a function without arguments that returns one."
        )
    return problem
