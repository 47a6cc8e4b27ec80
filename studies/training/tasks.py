"""What is trained: a network, its data, its loss, and the grid of every optimizer.

The loss is the mean over samples of the unit likelihood, for all four optimizers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from torch import Tensor, nn

import ekfac_ref as ek
from studies.training import data, networks
from studies.training.settings import Adam, Ekfac, Kfac, Momentum, Setting

Grids = dict[str, tuple[Setting, ...]]


@dataclass(frozen=True, eq=False)
class Task:
    """A network to be trained on data, and the settings that each optimizer is tried with.

    Attributes:
        name: as in pictures and tables.
        network: builds the model, with torch's global random numbers.
        data: all training inputs and targets.
        likelihood: whose curvature KFAC and EKFAC take.
        loss: (outputs, targets) to the mean over samples of the unit likelihood.
        grids: {optimizer's name: its settings to try}.
    """

    name: str
    network: Callable[[], nn.Module]
    data: Callable[[], tuple[Tensor, Tensor]]
    likelihood: ek.Likelihood
    loss: Callable[[Tensor, Tensor], Tensor]
    grids: Grids


def log_grid(lowest: float, factor: float) -> tuple[float, ...]:
    """Six values, each ``factor`` times the one before, to two digits."""
    return tuple(float(f"{lowest * factor**i:.2g}") for i in range(6))


def bernoulli(f: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy of logits f and targets y [N, pixels]: sum over pixels, mean over N."""
    return nn.functional.binary_cross_entropy_with_logits(f, y, reduction="sum") / len(f)


def _grids(
    sgd: tuple[float, ...],
    adam: tuple[float, ...],
    kfac: tuple[tuple[float, ...], tuple[float, ...]],
    ekfac: tuple[tuple[float, ...], tuple[float, ...]],
) -> Grids:
    return {
        "SGD": tuple(Momentum(lr) for lr in sgd),
        "Adam": tuple(Adam(lr) for lr in adam),
        "KFAC": tuple(Kfac(lr, damping) for lr, damping in product(*kfac)),
        "EKFAC": tuple(Ekfac(lr, damping) for lr, damping in product(*ekfac)),
    }


AUTOENCODER = Task(
    name="autoencoder",
    network=networks.autoencoder,
    data=data.images_and_images,
    likelihood=ek.Bernoulli(),
    loss=bernoulli,
    grids=_grids(
        sgd=log_grid(0.001, 10**0.5),
        adam=log_grid(0.0003, 10**0.5),
        kfac=(log_grid(0.001, 10**0.5), log_grid(0.0032, 10**0.5)),
        ekfac=(log_grid(0.001, 10**0.5), log_grid(0.000032, 10**0.5)),
    ),
)

CLASSIFIER = Task(
    name="classifier",
    network=networks.classifier,
    data=data.images_and_labels,
    likelihood=ek.Categorical(),
    loss=nn.functional.cross_entropy,
    grids=_grids(
        sgd=log_grid(0.01, 10**0.5),
        adam=log_grid(0.001, 10**0.5),
        kfac=(log_grid(0.0003, 10**0.5), log_grid(1e-5, 10.0)),
        ekfac=(log_grid(0.0003, 10**0.5), log_grid(1e-7, 10.0)),
    ),
)

TASKS = (AUTOENCODER, CLASSIFIER)
