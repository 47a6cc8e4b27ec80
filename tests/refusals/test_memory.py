"""Refused: what does not fit into memory, in whichever step; and the next call is as the first."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import blocks, passes
from ekfac_ref.conformance.subjects.snapshot import snapshot
from ekfac_ref.matrix import basis
from ekfac_ref.model import session
from ekfac_ref.model.batched import comparison
from ekfac_ref.optim import EKFAC, KFAC, sums
from ekfac_ref.optim import preconditioners as kinds
from tests.support.refusals import ENTRIES, Arguments, assert_refused, regression

CULPRIT, ADVICE = "memory: it does not suffice", "pass smaller batches"


class Hungry(nn.Module):
    """Asks for so many numbers, when its first input says so."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.linear, self.numbers = nn.Linear(3, 2), numbers

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + torch.empty(self.numbers)[0] * 0


def hungry() -> Arguments:
    return regression(Hungry(2**52))


def updated(kind: Callable[..., Any]) -> Callable[[ek.Problem], None]:
    def update(problem: ek.Problem) -> None:
        optimizer = kind(problem.model, problem.likelihood, lr=0.1, damping=0.1)
        optimizer.update(*problem.batches[0])
        optimizer.zero_grad()
        problem.model(problem.batches[0][0]).sum().backward()
        optimizer.step()

    return update


ALL = {**ENTRIES, "EKFAC": updated(EKFAC), "KFAC": updated(KFAC)}


@pytest.mark.parametrize("entry", ALL.values(), ids=ALL)
def test_a_forward_that_asks_for_too_much(entry: Callable[[ek.Problem], Any]) -> None:
    assert_refused(entry, hungry(), CULPRIT, ADVICE)


def out_of_memory(*args: Any, **kwargs: Any) -> Any:
    return torch.empty(2**60)  # what torch itself says


def out_of_python(*args: Any, **kwargs: Any) -> Any:
    raise MemoryError


def out_of_device(*args: Any, **kwargs: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


# entry: every step of it that makes something large
STEPS: dict[str, list[tuple[Any, str]]] = {
    "kfac": [
        (passes, "factors_by_group"),
        (passes, "kronecker"),
        (sys.modules["ekfac_ref.model.taps"], "_see"),
        (sys.modules["ekfac_ref.model.taps"], "by_graph"),
        (session, "made_private"),
    ],
    "ekfac": [(basis, "eigenbasis"), (basis, "squares_from_taps")],
    "exact_fisher": [(blocks, "sum_of_outer_products")],
    "full_fisher": [(blocks, "sum_of_outer_products")],
    "per_sample_gradients": [(sys.modules["ekfac_ref.model.gradients"], "_see")],
    "EKFAC": [(sums, "squares_from_taps"), (kinds, "eigh"), (comparison, "run_alone")],
    "KFAC": [(ek.Kronecker, "diagonalized"), (ek.EigenKronecker, "solve")],
}


@pytest.mark.parametrize("said", [out_of_memory, out_of_python, out_of_device])
@pytest.mark.parametrize(
    ("name", "place", "step"),
    [(name, place, step) for name, steps in STEPS.items() for place, step in steps],
)
def test_every_step_may_run_out_of_memory(
    name: str, place: Any, step: str, said: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = regression(nn.Sequential(nn.Linear(3, 2)))
    before = snapshot(arguments["model"], arguments["batches"])
    with monkeypatch.context() as patched:
        patched.setattr(place, step, said)
        with pytest.raises(ek.ProblemError) as caught:
            ALL[name](ek.Problem(**arguments))
    assert CULPRIT in str(caught.value)
    assert ADVICE in str(caught.value)
    assert caught.value.__cause__ is not None
    if name not in ("EKFAC", "KFAC"):
        assert snapshot(arguments["model"], arguments["batches"]) == before
    ALL[name](ek.Problem(**arguments))


def test_a_dense_matrix_that_is_too_large() -> None:
    wide = torch.ones(1, 1).expand(2**15, 2**15)
    for operator in (ek.Kronecker(wide, wide), ek.EigenKronecker(wide, wide, wide)):
        with pytest.raises(ek.ProblemError, match=r"dense\(\) \(d_in d_out\)\^2"):
            operator.dense()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="somebody else's"), ek.errors.enough_memory():
        raise RuntimeError("somebody else's")
