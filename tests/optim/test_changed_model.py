"""A model that is changed between updates: refused where the curvature or the groups are another's.

And whoever asks, an optimizer or a preconditioner, is advised in its own words.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC, EKFACPreconditioner, KFACPreconditioner
from tests.support.optim_cases import some_gradients
from tests.support.optim_runs import backward, data, equal, leaves, network, optimizer, values

BOTH = pytest.mark.parametrize("make", [EKFAC, KFAC])
ALL = pytest.mark.parametrize("make", [EKFAC, KFAC, EKFACPreconditioner, KFACPreconditioner])
X, Y = data()


@BOTH
def test_another_dtype_is_refused_until_the_model_is_back(make) -> None:
    """By update, step and both ways to precondition; nothing is changed. Float and half are one."""
    model = network()
    chosen = optimizer(make, model, momentum=0.9)
    chosen.update(X, Y)
    model.float()
    backward(model, X.float(), Y)
    before = values(model), leaves(chosen.state_dict()["curvature"]["blocks"])
    preconditioner = chosen.preconditioner
    for ask in (
        lambda: chosen.update(X.float(), Y),
        chosen.step,
        lambda: preconditioner.precondition_(0.1),
        lambda: preconditioner.precondition(some_gradients(model, 0), 0.1),
    ):
        with pytest.raises(ek.ProblemError, match=r"layer '0' is now torch.float32 on cpu, but"):
            ask()
        assert equal(values(model), before[0])
        assert leaves(chosen.state_dict()["curvature"]["blocks"]) == before[1]
    model.double()
    chosen.step()
    chosen.update(X, Y)


@BOTH
def test_a_bias_alone_of_another_dtype(make) -> None:
    model = network()
    chosen = optimizer(make, model)
    chosen.update(X, Y)
    model[3].bias.data = model[3].bias.data.float()
    with pytest.raises(ek.ProblemError, match=r"layer '3' is now torch.float32 on cpu"):
        chosen.update(X, Y)


@BOTH
def test_what_has_the_same_matrices_is_the_same(make) -> None:
    """A dtype before the first update is that of all; half precisions have float32 matrices."""
    model = network()
    chosen = optimizer(make, model)
    model.float()
    for x in (X.float(), X.bfloat16()):
        model.to(x.dtype)
        chosen.update(x, Y)
        backward(model, x, Y)
        before = values(model)
        chosen.step()
        assert not equal(values(model), before)
    assert chosen.preconditioner.updates == 2


@BOTH
def test_another_device(make) -> None:
    preconditioner = optimizer(make, network()).preconditioner
    preconditioner.update(X, Y)
    preconditioner.model.to("meta")
    with pytest.raises(ek.ProblemError, match=r"now torch.float64 on meta, but .* on cpu; move"):
        preconditioner.update(X, Y)


def assigned(model: nn.Module) -> None:
    model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)


def another_layer(model: nn.Module) -> None:
    model[0] = nn.Linear(3, 4).double()


def another_norm(model: nn.Module) -> None:
    model[2] = nn.LayerNorm(4).double()


def no_norm(model: nn.Module) -> None:
    model[2] = nn.Identity()


REPLACED: dict[str, tuple[Callable[[Any], None], str]] = {
    "assigned": (assigned, "'0.weight' is another Parameter than at construction"),
    "another layer": (another_layer, "'0.weight' is another Parameter than at construction"),
    "another norm": (another_norm, "'2.weight' is another Parameter than at construction"),
    "no norm": (no_norm, "'2.weight' is not there as at construction"),
}


@BOTH
@pytest.mark.parametrize("change", REPLACED)
def test_parameters_that_are_others_now(make, change: str) -> None:
    """By update and by step, which would move the old ones; a new optimizer goes on."""
    model = network()
    chosen = optimizer(make, model, momentum=0.9)
    chosen.update(X, Y)
    replace, message = REPLACED[change]
    replace(model)
    backward(model, X, Y)
    before = values(model), leaves(chosen.state_dict())
    for ask in (lambda: chosen.update(X, Y), chosen.step):
        with pytest.raises(ek.ProblemError, match=message):
            ask()
        assert equal(values(model), before[0])
        assert leaves(chosen.state_dict()) == before[1]
    again = optimizer(make, model)
    again.update(X, Y)
    again.step()
    assert not equal(values(model), before[0])


@BOTH
def test_values_that_are_loaded_are_no_change(make) -> None:
    model = network()
    chosen = optimizer(make, model)
    chosen.update(X, Y)
    model.load_state_dict(network().double().state_dict())
    backward(model, X, Y)
    before = values(model)
    chosen.step()
    assert not equal(values(model), before)


@BOTH
def test_a_preconditioner_alone_goes_on_by_names(make) -> None:
    preconditioner = optimizer(make, network()).preconditioner
    model = preconditioner.model
    preconditioner.update(X, Y)
    assigned(model)
    preconditioner.update(X, Y)
    backward(model, X, Y)
    before = model[0].weight.grad.clone()
    preconditioner.precondition_(0.1)
    assert not torch.equal(model[0].weight.grad, before)


@ALL
def test_advice_is_in_the_words_of_who_asked(make) -> None:
    """At construction, in an update, and where memory runs out in a solution."""
    name = make.__name__
    with pytest.raises(ek.ProblemError, match=rf"to treat: {name}\(layers=\('0', '3'\)\)"):
        make(network(), ek.Categorical())

    class Idle(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[0](x)

    idle = Idle(nn.Linear(3, 2), nn.Linear(3, 2)).double()
    with pytest.raises(ek.ProblemError, match=rf"naming the others in {name}\(layers=\.\.\.\)"):
        make(idle, ek.Categorical()).update(X, Y)
    make(idle, ek.Categorical(), layers=("0",)).update(X, Y)


@ALL
def test_memory_that_runs_out_in_a_solution(make, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*args: Any, **kwargs: Any) -> Any:
        raise MemoryError

    model = network()
    chosen = make(model, ek.Categorical(), layers=("0", "3"))
    chosen.update(X, Y)
    backward(model, X, Y)
    monkeypatch.setattr(ek.EigenKronecker, "solve", out_of_memory)
    solve = chosen.step if hasattr(chosen, "step") else lambda: chosen.precondition_(0.1)
    with pytest.raises(ek.ProblemError, match=rf"layers in {make.__name__}\(layers=") as caught:
        solve()
    assert isinstance(caught.value.__cause__, MemoryError)
