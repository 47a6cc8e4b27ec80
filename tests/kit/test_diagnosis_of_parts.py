"""Mistakes that the catalogue does not have: which part of E or K is wrong, in one sentence."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.diagnosis import selection
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.draw import mixtures
from tests.kit import remade
from tests.kit.remade.hooked import Caught, Recipe, assembled, factor_A, factor_B
from tests.support.partial_subjects import LINEAR, each_block


@pytest.fixture(autouse=True)
def _fewer_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (9,))


def odd(factor: Tensor) -> Tensor:
    """Another matrix with other eigenvectors."""
    d = len(factor)
    return factor + factor.trace() * torch.ones(d, d).to(factor) / d


def of_one_sample_less(s: Caught) -> Caught:
    """The first sample has no gradient."""
    weights = (torch.arange(len(s)) > 0).to(s.g)
    return replace(s, g=s.g * weights[:, None, None, None])


def crooked(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
    """Eigenvectors of A that are not orthonormal."""
    return assembled(Q_B, Q_A + 0.3 * Q_A[:, :1], Lambda)


EIGENVECTORS = "The eigenvectors are right, and Lambda is"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (Recipe(then=lambda Lambda, s: Lambda**1.5), f"{EIGENVECTORS} not."),
        (Recipe(then=lambda L, s: L.flatten().flip(0).reshape(L.shape)), "in another order."),
        (Recipe(then=lambda L, s: L * L.sum()), f"{EIGENVECTORS} up to a factor of every block."),
        (Recipe(A=lambda s: odd(factor_A(s))), "of A are wrong, and Lambda is right for those"),
        (Recipe(B=lambda s: odd(factor_B(s))), "of B are wrong, and Lambda is right for those"),
        (
            Recipe(A=lambda s: odd(factor_A(s)), B=lambda s: odd(factor_B(s))),
            "of B and A are wrong, and Lambda is right for those",
        ),
        (Recipe(look=of_one_sample_less), "of B are wrong, and the gradients that Lambda"),
        (Recipe(matrix=crooked), "no orthonormal eigenvectors of the form b (x) a; wrong on the "),
    ],
    ids=["Lambda", "order", "scale", "A", "B", "A and B", "gradients", "crooked"],
)
def test_the_part_of_an_ekfac(wrong: Recipe, says: str) -> None:
    sentence = ct.diagnose(remade.subject(wrong), []).sentence
    assert sentence.startswith("Nothing in the catalogue fits: ")
    assert says in sentence


def test_products_that_are_not_those_of_what_is_shown() -> None:
    def ekfac(problem: ek.Problem) -> dict[str, Any]:
        return {
            name: SimpleNamespace(
                matvec=lambda V, E=E: E.matvec(V) + E.trace() * V,
                Q_B=E.Q_B,
                Q_A=E.Q_A,
                eigenvalues=E.eigenvalues,
            )
            for name, E in ek.ekfac(problem).items()
        }

    sentence = ct.diagnose(ct.Subject("mine", ekfac, abilities=LINEAR), []).sentence
    assert sentence.endswith("Lambda that it shows are right, and its products are not.")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda b: ek.Kronecker(b.B, odd(b.A)), "Its A is wrong, and the other factor right up"),
        (lambda b: ek.Kronecker(odd(b.B), b.A), "Its B is wrong, and the other factor right up"),
        (lambda b: ek.Kronecker(odd(b.B), odd(b.A)), "Both factors are wrong."),
    ],
    ids=["A", "B", "both"],
)
def test_the_part_of_a_kfac(wrong: Any, says: str) -> None:
    assert (
        says in ct.diagnose(ct.Subject("it", kfac=each_block(wrong), abilities=LINEAR), []).sentence
    )


def test_an_argument_is_unread_only_if_no_problem_shows_it() -> None:
    """Batches of one sample are left out, so that on some problems the first batch is unread."""

    def longer(problem: ek.Problem) -> dict[str, Any]:
        batches = [batch for batch in problem.batches if len(batch[1]) > 1]
        return ek.ekfac(replace(problem, batches=batches or problem.batches))

    sentence = ct.diagnose(ct.Subject("mine", longer, abilities=LINEAR), []).sentence
    assert "does not change" not in sentence


def test_a_mistake_on_some_problems_has_its_name_for_these() -> None:
    """And beside them what is right; where all of them are, nothing is said to agree."""
    halves = MUTANTS["half-lambda"]

    def ask(problem: ek.Problem) -> Any:
        return (ek.ekfac if problem.mask is None else halves.ekfac)(problem)

    problems = mixtures(ct.Abilities(dtypes=(torch.float64,)), 60, 0)
    subject = ct.Subject("halves", ask)
    few = [halves, MUTANTS["sum-over-samples"]]
    found = ct.diagnose(subject, few, problems=problems, elsewhere=False)
    assert re.match(
        r"It differs on \d+ of 16 problems, and on these it looks as if", found.sentence
    )
    assert halves.mistake in found.sentence
    assert found.named == "half-lambda"
    right = [problem for problem in problems if problem.mask is None]
    assert ct.diagnose(subject, few, problems=right, elsewhere=False).sentence.startswith(
        "No name: "
    )
