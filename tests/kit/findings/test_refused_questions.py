"""A subject that answers a problem, and refuses one of the questions about it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct


class Solving(NamedTuple):
    """A block that may refuse to solve, or be off: it scales the V that it is given."""

    block: Any
    solves: bool
    off: float = 1.0

    def matvec(self, V: Tensor) -> Tensor:
        product: Tensor = self.block.matvec(V)
        V *= self.off
        return product

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        if not self.solves:
            raise NotImplementedError("no solve")
        x: Tensor = self.block.solve(V, damping=damping)
        return x


def solving(solves: Callable[[ek.Problem], bool], off: float = 1.0, ask: Any = ek.ekfac) -> Any:
    return lambda problem: {
        name: Solving(E, solves(problem), off) for name, E in ask(problem).items()
    }


def test_one_that_refuses_to_solve_is_judged_by_its_products() -> None:
    laws = ["own answers", "trace", "solve 1"]
    report = ct.check(solving(lambda problem: False), ct.Profile("few", 24, 0.0), laws=laws)
    own, trace, solve = report.verdicts
    assert (report.exit_code, report.answered) == (0, 24)
    assert (own.status, own.asked, own.refused[0]) == (ct.Status.PASS, 24, 24)
    assert (trace.status, trace.refused) == (ct.Status.PASS, (0, ""))
    assert (solve.status, solve.asked, solve.refused[0]) == (ct.Status.REFUSED, 0, 24)
    assert solve.refused[1].startswith(
        "it raised NotImplementedError: no solve (test_refused_questions.py"
    )
    spoils = ct.check(
        solving(lambda problem: False, 2.0), ct.Profile("few", 4, 0.0), laws=["own answers"]
    )
    assert spoils.exit_code == 1


def test_a_solve_that_is_mostly_refused_makes_no_other_law_blunt() -> None:
    """On the problems where it is refused, others would have noticed an error all the same."""
    some = solving(lambda problem: len(problem.batches) == 1)
    report = ct.check(some, ct.Profile("few", 30, 0.0), laws=["trace", "solve 1"])
    trace, solve = report.verdicts
    assert 0 < solve.asked < solve.asked + solve.refused[0] == 30
    assert trace.asked == 30
    assert report.exit_code == 0


def test_who_refuses_to_solve_with_one_matrix_is_judged_by_the_other() -> None:
    wrong_kfac = solving(lambda problem: True, 2.0, ek.kfac)
    both = ct.Subject("it", solving(lambda problem: False), wrong_kfac)
    assert ct.check(both, ct.Profile("few", 4, 0.0), laws=["solve 1"]).exit_code == 1


@pytest.mark.parametrize("law", ["leaves alone", "no memory", "recut"])
def test_what_is_answered_is_judged_where_another_question_is_refused(law: str) -> None:
    """A wrong EKFAC beside a Fisher of all layers that is not there yet."""

    def product(problem: ek.Problem, V: Any) -> Any:
        raise NotImplementedError("later")

    asked: list[int] = []

    def wrong_in_manners(problem: ek.Problem) -> Any:
        asked.append(0)
        next(problem.model.parameters()).data *= 1.5  # which the answer does not see
        size = 1.0 + len(asked) * (len(problem.batches) + 1) * 1e-3
        return {name: E.scaled(size) for name, E in found(problem).items()}

    found = ek.ekfac
    few = ct.Profile("few", 4, 0.0)
    for ekfac, status in ((found, ct.Status.PASS), (wrong_in_manners, ct.Status.FAIL)):
        subject = ct.Subject("it", ekfac, fisher_product=product)
        (verdict,) = ct.check(subject, few, laws=[law]).verdicts
        assert verdict.status is status
        assert verdict.asked == 4
    assert verdict.refused[0] in (0, 4)
