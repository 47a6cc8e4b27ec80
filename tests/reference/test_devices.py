"""Tensors are created where the model and the data are: not where torch's default happens to be."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.declared import ByCurvature, Hyperparameters, Training
from ekfac_ref.conformance.problems.changed import copied
from ekfac_ref.optim import EKFAC, KFAC
from tests.support.trains import trains

DRAWN = ct.draw_problems(ct.Abilities(), 200, 0)


@pytest.mark.parametrize("problem", DRAWN[::10], ids=range(len(DRAWN[::10])))
def test_where_the_default_is_plays_no_part(problem: ek.Problem) -> None:
    """On the meta device there are no values: whatever is created there and used raises."""
    settings = Hyperparameters(0.1, 1.0, 0.5, 2, 0.5, 1e-3)
    problem = replace(
        problem, batches=[*problem.batches]
    )  # a DataLoader itself cannot be read there
    with torch.device("meta"):
        for ask in (ek.ekfac, ek.kfac, ek.exact_fisher):
            for block in ask(problem).values():
                V = torch.ones(block.shape, device="cpu").to(block.trace().dtype)
                assert block.solve(block.matvec(V), damping=1.0).isfinite().all()
                assert block.logdet(damping=1.0).isfinite()
        assert ek.full_fisher(problem).shapes
        for make in (EKFAC, KFAC):
            assert len([*trains(make)(copied(problem), settings)]) == len(problem.batches)


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """An operator on another device, asked from here."""

    operator: Any
    device: str

    def matvec(self, V: Tensor) -> Tensor:
        found = self.operator.matvec(V.to(self.device))
        assert found.device.type == self.device
        return found.cpu()

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        return self.operator.solve(V.to(self.device), damping=damping).cpu()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.operator, name)
        if name == "blocks":
            return tuple(Elsewhere(one, self.device) for one in found)
        return found.cpu() if isinstance(found, Tensor) else found


def moved(problem: ek.Problem, device: str) -> ek.Problem:
    batches = [tree_map(lambda x: x.to(device), tuple(batch)) for batch in problem.batches]
    return replace(problem, model=problem.model.to(device), batches=batches)


def on(device: str) -> ct.Subject:
    """The reference, on another device."""

    def asked(ask: Callable[[ek.Problem], Any]) -> Any:
        return lambda problem: {
            name: Elsewhere(block, device)
            for name, block in ask(moved(copied(problem), device)).items()
        }

    def optimizer(problem: ek.Problem, settings: Hyperparameters) -> Iterator[None]:
        there = moved(copied(problem), device)
        for _ in trains(EKFAC)(there, settings):
            with torch.no_grad():
                pairs = zip(problem.model.parameters(), there.model.parameters(), strict=True)
                for here, other in pairs:
                    here.copy_(other)
            yield

    return ct.Subject(
        f"the reference on {device}",
        asked(ek.ekfac),
        asked(ek.kfac),
        asked(ek.exact_fisher),
        optimizer=optimizer,
        definition=ct.Definition(training=Training(clip=ByCurvature())),
    )


LAWS = ["comparison", "trace", "commutes", "self-projection", "kfac", "exact block", "eigenvalues"]
LAWS += ["eigenbasis", "solve 1", "first step", "running means", "refresh", "momentum", "clip"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_laws_hold_on_a_gpu() -> None:
    subject = on("cuda")
    found = [ct.ask(subject, problem, LAWS) for problem in DRAWN]
    assert [
        (number, law, error)
        for number, of_one in enumerate(found)
        for law, error in of_one.items()
        if error
    ] == []
    assert set().union(*found) == set(LAWS)


def test_the_laws_hold_where_the_device_is_this_one() -> None:
    """What the GPU's test does, where there is none."""
    found = ct.ask(on("cpu"), DRAWN[0], LAWS)
    assert {law: error for law, error in found.items() if error} == {}
    assert set(LAWS) - set(found) <= {"clip"}
