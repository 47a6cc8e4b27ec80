"""How far KFAC's and EKFAC's running blocks are from the exact block while a network is trained.

Between two eigenbases KFAC keeps its matrix, and EKFAC its basis alone: its eigenvalues follow the
data. Both are compared with the exact block at the parameters of that step, so an error has three
parts: the approximation itself, the age of the basis, and the lag of the running means.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFACPreconditioner, KFACPreconditioner
from studies.training.data import deal
from studies.training.run import initialised
from studies.training.settings import DECAY, Ekfac
from studies.training.tasks import Task

LAYERS = ("linear4", "linear5")  # of the autoencoder, into its code and out of it
RECOMPUTE_EVERY = 50
EVERY = 5  # steps from one measurement to the next
SAMPLES = 700  # behind the exact block: half of the training images


@dataclass(frozen=True)
class Errors:
    """||X - F|| / ||F|| of one layer, X KFAC's or EKFAC's running block, at each of the steps."""

    layer: str
    size: tuple[int, int]
    steps: tuple[int, ...]
    kfac: tuple[float, ...]
    ekfac: tuple[float, ...]


def errors(
    task: Task, setting: Ekfac, seed: int, steps: int, tick: Callable[[], None]
) -> list[Errors]:
    """Train with EKFAC as it was tuned, and let both look on, with bases of a longer life."""
    model = initialised(task, seed)
    optimizer = setting.optimizer(model, task.likelihood, seed)
    fisher = ek.Sampled(draws=1, seed=seed)
    kfac, ekfac = (
        kind(model, task.likelihood, fisher=fisher, decay=DECAY, recompute_every=RECOMPUTE_EVERY)
        for kind in (KFACPreconditioner, EKFACPreconditioner)
    )
    x, y = task.data()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LAYERS}
    for step, index in enumerate(islice(deal(seed, len(x)), steps)):
        for watched in (optimizer, kfac, ekfac):
            watched.update(x[index], y[index])
        if step % EVERY == 0:
            exact = exact_blocks(task, model)
            for name, F in exact.items():
                K, E = (p.operators[name].dense() for p in (kfac, ekfac))
                found[name].append((relative(K, F), relative(E, F)))
        optimizer.zero_grad()
        task.loss(model(x[index]), y[index]).backward()
        optimizer.step()
        tick()
    return [
        Errors(
            layer=name,
            size=ekfac.operators[name].shape,
            steps=tuple(range(0, steps, EVERY)),
            kfac=tuple(K for K, _ in found[name]),
            ekfac=tuple(E for _, E in found[name]),
        )
        for name in LAYERS
    ]


def exact_blocks(task: Task, model: nn.Module) -> dict[str, Tensor]:
    """{layer: F} at the model's present parameters."""
    x, y = task.data()
    batches = [(x[:SAMPLES], y[:SAMPLES])]
    found = {}
    for name in LAYERS:  # one at a time: gradients of all samples and columns are held at once
        problem = ek.Problem(model, batches, task.likelihood, ek.Exact(), layers=(name,))
        found[name] = ek.exact_fisher(problem)[name].dense()
    return found


def relative(X: Tensor, Y: Tensor) -> float:
    """||X - Y|| / ||Y|| in the Frobenius norm."""
    return (torch.linalg.norm(X - Y) / torch.linalg.norm(Y)).item()
