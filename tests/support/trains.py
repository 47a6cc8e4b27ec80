"""The package's optimizers as subjects: an adapter of a few lines."""

from collections.abc import Callable, Iterator
from typing import Any

import ekfac_ref as ek
from ekfac_ref.conformance.adapter import unit_loss
from ekfac_ref.conformance.declared import Hyperparameters
from ekfac_ref.model.forward import call


def trains(make: Any) -> Callable[[ek.Problem, Hyperparameters], Iterator[None]]:
    def optimizer(problem: ek.Problem, settings: Hyperparameters) -> Iterator[None]:
        optimizer = make(
            problem.model,
            problem.likelihood,
            lr=settings.lr,
            damping=settings.damping,
            momentum=settings.momentum,
            kl_clip=settings.kl_clip,
            decay=settings.decay,
            recompute_every=settings.refresh_every,
            fisher=problem.fisher,
            sharing=problem.sharing,
            layers=problem.layers,
            mask=problem.mask,
        )
        loss = unit_loss(problem.likelihood)
        for x, y in problem.batches:
            optimizer.update(x, y)
            optimizer.zero_grad()
            loss(call(problem.model, x), y).backward()
            optimizer.step()
            yield

    return optimizer
