"""The defaults of lr, damping, momentum and kl_clip train what they are said to train."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC
from studies.training.data import batch_indices
from studies.training.run import initialised
from studies.training.tasks import AUTOENCODER, CLASSIFIER

STEPS = 40
Loss = Callable[[Tensor, Tensor], Tensor]


def halved_squares(f: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (f - y).square().sum(1).mean()


def regression() -> tuple[nn.Module, tuple[Tensor, Tensor], ek.Likelihood, Loss]:
    x = torch.randn(512, 6)
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1)
    model = nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 2))
    return model, (x, y), ek.Gaussian(), halved_squares


def on_digits(task: Any) -> tuple[nn.Module, tuple[Tensor, Tensor], ek.Likelihood, Loss]:
    return initialised(task, 0), task.data(), task.likelihood, task.loss


@pytest.mark.parametrize("make", [EKFAC, KFAC])
@pytest.mark.parametrize(
    ("question", "left"),
    [
        (regression, 0.2),
        (lambda: on_digits(CLASSIFIER), 0.1),
        (lambda: on_digits(AUTOENCODER), 0.5),
    ],
    ids=["regression", "classifier", "autoencoder"],
)
def test_they_train(make: Any, question: Any, left: float) -> None:
    model, (x, y), likelihood, loss = question()
    before = loss(model(x), y).item()
    optimizer = make(model, likelihood)
    for index in islice(batch_indices(0, len(x)), STEPS):
        optimizer.zero_grad()
        optimizer.update(x[index], y[index])
        loss(model(x[index]), y[index]).backward()
        optimizer.step()
    assert loss(model(x), y).item() < left * before
