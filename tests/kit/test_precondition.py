"""What a subject's ``precondition`` makes of v must solve (E + damping I) x = v with its own E."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.sharing import Sharing
from tests.support.other_definitions import (
    DEFINITIONS,
    HAND_MADE,
    LAWS,
    SHARINGS,
    Piece,
    broken,
    correct,
    grouped,
    pieces,
)


def with_precondition(precondition: Callable[..., Any]) -> Subject:
    return Subject("solves", ek.ekfac, precondition=precondition)


def by_solve(damped: Callable[[float], float] = lambda damping: damping) -> Callable[..., Any]:
    def precondition(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
        blocks = ek.ekfac(problem)
        return {name: blocks[name].solve(V[name], damping=damped(damping)) for name in V}

    return precondition


def with_kfac(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
    blocks = ek.kfac(problem)
    return {name: blocks[name].solve(V[name], damping=damping) for name in V}


def transposed(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
    """Q^T (Lambda + damping)^-1 Q instead of Q (Lambda + damping)^-1 Q^T."""

    def solve(parts: list[Piece], v: Tensor) -> Tensor:
        Q = torch.block_diag(*(torch.kron(*(x.contiguous() for x in part.Q)) for part in parts))
        Lambda = torch.cat([part.eigenvalues.flatten() for part in parts])
        return (Q.T @ ((Q @ v.double().flatten()) / (Lambda + damping))).reshape(v.shape).to(v)

    found = pieces(problem, False, False)
    return {name: solve(found[name], v) for name, v in V.items()}


def other_each_time() -> Any:
    """By some last places, never the same: random ones would agree in every fifth run."""
    calls = count()

    def precondition(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
        noise = 1 + 1e-15 * next(calls)
        return {name: noise * x for name, x in by_solve()(problem, V, damping).items()}

    return precondition


@pytest.mark.parametrize("make", HAND_MADE)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_right_one_solves(make: Any, sharing: Sharing) -> None:
    trial = Trial(with_precondition(by_solve()), make(sharing=sharing))
    ratios = list(LAWS["precondition"].ask(trial))
    assert len(ratios) == 2 * len(trial.blocks)
    assert LAWS["precondition"].offered(trial)
    assert not LAWS["precondition"].offered(Trial(Subject("", ek.ekfac), make()))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_another_definition_is_solved_in_its_own(name: str) -> None:
    joint = replace(correct(name), precondition=by_solve())
    assert "precondition" in broken(joint, grouped())
    assert "precondition" not in broken(correct(name), grouped())


@pytest.mark.parametrize(
    "wrong",
    [
        by_solve(lambda damping: 2 * damping),
        by_solve(lambda damping: damping**2),
        by_solve(lambda damping: 1.0),
        with_kfac,
        transposed,
        lambda problem, V, damping: {name: v / damping for name, v in V.items()},
        other_each_time(),
    ],
    ids=["twice", "squared", "one", "KFAC", "transposed", "no E", "other bits"],
)
def test_a_wrong_one_does_not(wrong: Callable[..., Any]) -> None:
    with pytest.raises(LawBroken):
        list(LAWS["precondition"].ask(Trial(with_precondition(wrong), grouped())))


def test_it_leaves_gradients_and_model_alone() -> None:
    def overwrites(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        answer = by_solve()(problem, V, damping)
        V["0"].zero_()
        next(problem.model.parameters()).grad = torch.zeros(4, 2, 2).double()
        return answer

    trial = Trial(with_precondition(overwrites), grouped())
    with pytest.raises(LawBroken, match="leaves alone"):
        list(LAWS["leaves alone"].ask(trial))
    assert "precondition, gradients of '0': changed" in trial.changes
    assert any(line.startswith("precondition, parameter '0.weight'") for line in trial.changes)
    assert "precondition" not in broken(with_precondition(overwrites), grouped())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            lambda x: {"0": x["0"]},
            r"precondition returned \['0'\], expected a dict of \['0', '3'\]",
        ),
        (
            lambda x: x | {"0": x["0"].T},
            r"shape \[5, 4\] for gradients of \[4, 5\] = \[d_out, d_in",
        ),
        (lambda x: x | {"0": x["0"] / 0}, "precondition returned NaN or infinity"),
        (lambda x: x | {"0": None}, "precondition returned a NoneType, not a tensor"),
    ],
)
def test_its_answer_is_looked_at_first(bad: Callable[..., Any], says: str) -> None:
    def precondition(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
        return bad(by_solve()(problem, V, damping))

    with pytest.raises(BadAnswer, match=says):
        list(LAWS["precondition"].ask(Trial(with_precondition(precondition), grouped())))


def test_what_wraps_a_subject_wraps_its_precondition() -> None:
    asked = []

    def counting(ask: Callable[..., Any]) -> Callable[..., Any]:
        def answer(problem: ek.Problem) -> Any:
            asked.append(problem)
            return ask(problem)

        return answer

    trial = Trial(with_precondition(by_solve()).wrapped(counting), grouped())
    assert list(LAWS["precondition"].ask(trial))
    assert len(asked) == 1 + 4
    assert LAWS["precondition"].lane is Lane.PRECONDITION
