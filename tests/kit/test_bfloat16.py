"""Data in bfloat16, matrices in float32: correct answers pass, gross mistakes do not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.laws import of_a_matrix
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import notices
from ekfac_ref.conformance.laws.replays import above_noise, noise_limit
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.problems.source import script
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS, perturbed
from ekfac_ref.conformance.subjects.subject import Answer, Subject
from ekfac_ref.conformance.subjects.trial import Case, Trial
from ekfac_ref.conformance.truth.tolerance import LIMIT
from ekfac_ref.errors import ProblemError
from ekfac_ref.examples import hooks, reference
from ekfac_ref.question.problem import Problem
from studies.numerics.correct import definition
from tests.support import laws

COARSE = Abilities(dtypes=(torch.bfloat16,))


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return mixtures(COARSE, 11, 0)


def of_trace(case: Case) -> float:
    return of_a_matrix.trace.formula(case.E)


def mutant(name: str) -> Subject:
    found = MUTANTS[name].subject
    return replace(found, abilities=COARSE)


@pytest.mark.parametrize("subject", [reference, definition], ids=["rounded", "exact"])
def test_correct_answers_break_no_law(subject: Subject, problems: list[Problem]) -> None:
    for problem in problems[:3]:
        assert problem.dtype is torch.bfloat16
        trial = Trial(replace(subject, abilities=COARSE), problem)
        assert not [law.name for law in LAWS.values() if notices(law, trial)]


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("times-batch-size", "trace"),
        ("reduce-for-expand", "eigenbasis"),
        ("transposed-where-square", "moments"),
        ("eigenvectors-of-halves", "commutes"),
    ],
)
def test_gross_mistakes_are_noticed(name: str, law: str, problems: list[Problem]) -> None:
    assert any(notices(LAWS[law], Trial(mutant(name), problem)) for problem in problems)


def test_replays_see_what_the_bound_on_rounding_does_not(problems: list[Problem]) -> None:
    problem = problems[0]
    law = LAWS["trace"]
    a_fifth_too_large = Trial(perturbed(reference, PERTURBATIONS[0], 0.2), problem)
    by_the_bound = replace(law, ask=lambda trial: [of_trace(case) for case in trial.cases])
    assert not notices(by_the_bound, a_fifth_too_large)
    assert notices(above_noise(by_the_bound), a_fifth_too_large)
    assert noise_limit(law, a_fifth_too_large) < LIMIT


def test_the_gate_is_wider_than_rounding() -> None:
    assert laws.gate(torch.float32) == laws.gate(torch.float64)
    assert laws.gate(torch.bfloat16) > 20 * torch.finfo(torch.bfloat16).eps


def test_matrices_are_multiplied_with_float32(problems: list[Problem]) -> None:
    given = set()

    class Watched:
        def __init__(self, block: object) -> None:
            self._block = block

        def matvec(self, V: Tensor) -> Tensor:
            given.add(V.dtype)
            return self._block.matvec(V)

        def solve(self, V: Tensor, *, damping: float) -> Tensor:
            given.add(V.dtype)
            return self._block.solve(V, damping=damping)

    def answer(problem: Problem) -> Answer:
        return {name: Watched(block) for name, block in reference.ekfac(problem).items()}

    trial = Trial(Subject("watched", answer), problems[0])
    for law in LAWS.values():
        list(law.ask(trial))
    assert given == {torch.float32}


def test_the_kits_own_subjects_hand_over_float32(problems: list[Problem]) -> None:
    """Its contract for everybody: bfloat16 data, matrices and products in float32."""
    for name in ("half-lambda", "kfac-over-n-twice", "block-by-columns"):
        subject = mutant(name)
        for ask in filter(None, (subject.ekfac, subject.kfac, subject.exact_fisher)):
            for operator in ask(problems[0]).values():
                for block in getattr(operator, "blocks", (operator,)):
                    V = torch.ones(block.shape)
                    assert block.matvec(V).dtype is torch.float32
                    assert getattr(block, "Q_A", V).dtype is torch.float32


def test_a_problem_can_be_pasted(problems: list[Problem]) -> None:
    for problem in problems:
        found: dict[str, object] = {}
        exec(script(problem, None, None).partition("subject = ")[0], found)
        again = found["problem"]
        assert isinstance(again, Problem)
        for x, y in zip(problem.model.parameters(), again.model.parameters(), strict=True):
            assert x.dtype == y.dtype == torch.bfloat16
            assert torch.equal(x, y)


def test_no_mistake_is_named() -> None:
    found = diagnose(mutant("times-batch-size"))
    assert not found.candidates
    assert "too many mistakes look alike" in found.sentence


@pytest.mark.parametrize("dtypes", [(torch.float16,), ()])
def test_other_dtypes_are_refused(dtypes: tuple[torch.dtype, ...]) -> None:
    with pytest.raises(ProblemError, match=r"float64, torch\.float32, torch\.bfloat16; declare"):
        Abilities(dtypes=dtypes)


def test_the_example_of_hooks_has_orthonormal_eigenvectors() -> None:
    """In float32: rounded to bfloat16, they are orthonormal to two digits."""
    abilities = replace(hooks.abilities, dtypes=(torch.bfloat16,))
    for problem in mixtures(abilities, 4, 0):
        for block in hooks.ekfac(problem).values():
            for Q in (block.Q_A, block.Q_B):
                torch.testing.assert_close(Q.T @ Q, torch.eye(Q.shape[1]))
