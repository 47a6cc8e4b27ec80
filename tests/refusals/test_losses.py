"""Refused: losses that are not a likelihood times a scalar, or not the problem's likelihood."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot
from tests.support.refusals import regression

WEIGHT = torch.tensor([1.0, 2.0])


class FocalLoss(nn.CrossEntropyLoss):
    def forward(self, f: Tensor, y: Tensor) -> Tensor:
        return super().forward(2 * f, y)


LOSSES: list[tuple[Any, str, str]] = [
    (nn.CrossEntropyLoss(weight=WEIGHT), "CrossEntropyLoss with weight", "leave weight out"),
    (
        nn.CrossEntropyLoss(label_smoothing=0.1),
        "CrossEntropyLoss with label_smoothing",
        "leave label_smoothing out",
    ),
    (
        nn.CrossEntropyLoss(reduction="none"),
        "CrossEntropyLoss with reduction='none'",
        "leave reduction='none' out",
    ),
    (FocalLoss(), "FocalLoss with a forward of its own", "leave a forward of its own out"),
    (nn.BCEWithLogitsLoss(weight=WEIGHT), "BCEWithLogitsLoss with weight", "leave weight out"),
    (
        nn.BCEWithLogitsLoss(pos_weight=WEIGHT),
        "BCEWithLogitsLoss with pos_weight",
        "leave pos_weight out",
    ),
    (
        nn.BCEWithLogitsLoss(reduction="none"),
        "BCEWithLogitsLoss with reduction='none'",
        "leave reduction='none' out",
    ),
    (
        nn.PoissonNLLLoss(log_input=False),
        "PoissonNLLLoss with log_input=False",
        "leave log_input=False out",
    ),
    (
        nn.PoissonNLLLoss(reduction="none"),
        "PoissonNLLLoss with reduction='none'",
        "leave reduction='none' out",
    ),
    (
        nn.MSELoss(reduction="none"),
        "MSELoss with reduction='none'",
        "leave reduction='none' out",
    ),
    (nn.L1Loss(), "L1Loss is not a likelihood known here", "use an instance of MSELoss"),
    (nn.MSELoss, "MSELoss'> is not a likelihood known here", "use an instance of MSELoss"),
    (F.cross_entropy, "cross_entropy", "CrossEntropyLoss"),
    (ek.Gaussian(), "Gaussian() is not a likelihood known here", "or a likelihood directly"),
]


@pytest.mark.parametrize(("loss", "culprit", "advice"), LOSSES, ids=[c for _, c, _ in LOSSES])
@pytest.mark.parametrize("ask", [ek.likelihood_of, lambda loss: ek.loss_scale(loss, problem())])
def test_a_loss_that_is_no_likelihood_times_a_scalar_is_refused(
    ask: Callable[[Any], Any], loss: Any, culprit: str, advice: str
) -> None:
    with pytest.raises(ek.ProblemError) as caught:
        ask(loss)
    assert str(caught.value).startswith("loss: ")
    assert culprit in str(caught.value)
    assert advice in str(caught.value)


def problem(targets: Tensor | None = None, likelihood: Any = None) -> ek.Problem:
    targets = torch.tensor([0, 1, 0, 1, -100]) if targets is None else targets
    arguments = regression(nn.Sequential(nn.Linear(3, 2)), targets=targets)
    return ek.Problem(**arguments | {"likelihood": likelihood or ek.Categorical()})


@pytest.mark.parametrize(
    ("loss", "problem", "culprit", "advice"),
    [
        (
            nn.MSELoss(),
            problem(),
            "loss: MSELoss is a Gaussian likelihood, but the problem has Categorical",
            "likelihood=likelihood_of(loss)",
        ),
        (
            nn.CrossEntropyLoss(ignore_index=1),
            problem(),
            "loss: it ignores the label 1, but the problem's likelihood -100",
            "the same ignore_index",
        ),
        (
            nn.CrossEntropyLoss(),
            problem(torch.full((5,), -100)),
            "targets: every label is ignored",
            "correct the labels or ignore_index",
        ),
        (
            nn.CrossEntropyLoss(),
            problem(torch.full((5, 2), 0.5)),
            "targets: Categorical takes integer class labels, not torch.float32; soft targets",
            "y.argmax",
        ),
        (
            nn.MSELoss(),
            replace(problem(likelihood=ek.Gaussian()), batches=[]),
            "batches: there are none",
            "pass at least one",
        ),
    ],
)
def test_a_loss_and_a_problem_that_do_not_match_are_refused(
    loss: nn.Module, problem: ek.Problem, culprit: str, advice: str
) -> None:
    before = snapshot(problem.model, problem.batches)
    with pytest.raises(ek.ProblemError) as caught:
        ek.loss_scale(loss, problem)
    assert culprit in str(caught.value)
    assert advice in str(caught.value)
    assert snapshot(problem.model, problem.batches) == before
