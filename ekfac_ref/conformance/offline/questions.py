"""All that laws will ask of a problem: itself, and what it is changed to."""

from collections.abc import Callable

from ekfac_ref.conformance.problems import changed
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.problem import Problem

PLAIN = "plain"
# Laws of what a question leaves behind; files have no memory.
NOT_OF_FILES = ("no memory", "leaves alone", "after an exception")


def _always(problem: Problem) -> bool:
    return True


_CHANGES: dict[str, tuple[Callable[[Problem], Problem], Callable[[Problem], bool]]] = {
    PLAIN: (lambda problem: problem, _always),
    "recut": (changed.recut, _always),
    "order": (changed.in_reverse, _always),
    "doubled": (changed.doubled, _always),
    "labels": (changed.other_labels, lambda problem: isinstance(problem.fisher, Exact)),
    "padding": (changed.padded, lambda problem: problem.mask is not None),
    "nan": (changed.with_nan, _always),
    "unknown-layer": (changed.with_an_unknown_layer, _always),
    "batch-norm": (changed.with_batch_norm, _always),
}


def questions_about(problem: Problem) -> dict[str, Problem]:
    """{name of the change: the changed problem}, the problem itself first."""
    return {
        name: change(changed.copied(problem))
        for name, (change, applies) in _CHANGES.items()
        if applies(problem)
    }
