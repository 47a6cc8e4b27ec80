"""A run that is stored and resumed is a run that never stopped; another's state is refused."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC, EKFACPreconditioner, KFACPreconditioner
from tests.support.optim_runs import backward, data, equal, leaves, network, optimizer, values

BOTH = pytest.mark.parametrize("make", [EKFAC, KFAC])
PAIRS = pytest.mark.parametrize("make", [EKFACPreconditioner, KFACPreconditioner])
CHOICES: dict[str, Any] = {"momentum": 0.9, "kl_clip": 1e-2, "fisher": ek.Sampled(1, seed=7)}


def walk(model: nn.Module, chosen: Any, start: int, stop: int, scheduler: Any = None) -> None:
    for t in range(start, stop):
        chosen.update(*data(t, 4 + t % 3))
        backward(model, *data(t, 4 + t % 3))
        chosen.step()
        if scheduler is not None:
            scheduler.step()


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@BOTH
@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_resumed_is_never_stopped(make, stop: int) -> None:
    """Bit for bit, through a file; between refreshes and at one, the scheduler with it."""
    straight, first, second = network(), network(), network()
    chosen = optimizer(make, straight, **CHOICES)
    walk(straight, chosen, 0, 7, torch.optim.lr_scheduler.StepLR(chosen, 2))

    chosen = optimizer(make, first, **CHOICES)
    scheduler = torch.optim.lr_scheduler.StepLR(chosen, 2)
    walk(first, chosen, 0, stop, scheduler)
    stored = through_a_file([first.state_dict(), chosen.state_dict(), scheduler.state_dict()])
    resumed = optimizer(make, second, **CHOICES)
    scheduler = torch.optim.lr_scheduler.StepLR(resumed, 2)
    for one, state in zip((second, resumed, scheduler), stored, strict=True):
        one.load_state_dict(state)
    assert leaves(resumed.state_dict()) == leaves(chosen.state_dict())
    walk(second, resumed, stop, 7, scheduler)
    assert equal(values(straight), values(second))


@BOTH
def test_a_state_does_not_follow_what_comes_after(make) -> None:
    """Neither the run that it was taken from, nor the one that it was loaded into."""
    model = network()
    chosen = optimizer(make, model, **CHOICES)
    walk(model, chosen, 0, 2)
    state = chosen.state_dict()
    kept = copy.deepcopy(leaves(state))
    walk(model, chosen, 2, 4)
    assert leaves(state) == kept
    chosen.load_state_dict(state)
    walk(model, chosen, 2, 4)
    assert leaves(state) == kept


@BOTH
def test_a_copy_goes_its_own_way(make) -> None:
    model = network()
    chosen = optimizer(make, model, **CHOICES)
    walk(model, chosen, 0, 2)
    twin_model, twin = copy.deepcopy((model, chosen))
    assert twin.preconditioner.model is twin_model
    before = leaves(chosen.state_dict())
    walk(twin_model, twin, 2, 4)
    assert leaves(chosen.state_dict()) == before
    walk(model, chosen, 2, 4)
    assert equal(values(model), values(twin_model))


class Net(nn.Module):
    """As ``network``, or not quite."""

    def __init__(self, hidden: int = 4, groups: int = 1, name: str = "last") -> None:
        super().__init__()
        self.first = nn.Conv1d(4, hidden, 1, groups=groups, bias=False)
        self.add_module(name, nn.Linear(hidden, 2))
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(torch.tanh(self.first(x[..., None]))[..., 0])


OTHERS = {
    "other names": (lambda: Net(name="end"), "it has the layers .*'end'.* but this model .*'last'"),
    "other shapes": (lambda: Net(hidden=6), r"'first' has shape \[6, 4\] in it, but \[4, 4\]"),
    "other groups": (lambda: Net(groups=2), "'first' has shape|'first' has groups"),
    "other dtype": (lambda: Net().double(), "'first' has dtype torch.float64 in it, but torch.fl"),
    "another kind": (Net, "it is of a "),
}


def pair(x: Any) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = next(x.parameters()).dtype
    return torch.randn(5, 4).to(dtype), torch.randint(2, (5,))


@PAIRS
@pytest.mark.parametrize("other", OTHERS)
def test_a_state_of_another_model_is_refused(make, other: str) -> None:
    """By the preconditioner, which is then as before; also before its first update."""
    build, message = OTHERS[other]
    another = {EKFACPreconditioner: KFACPreconditioner, KFACPreconditioner: EKFACPreconditioner}
    theirs = (another[make] if other == "another kind" else make)(build(), ek.Categorical())
    mine = make(Net(), ek.Categorical())
    mine.update(*pair(mine.model))
    before = leaves(mine.state_dict())
    for _ in range(2):
        with pytest.raises(ek.ProblemError, match=message):
            mine.load_state_dict(theirs.state_dict())
        assert leaves(mine.state_dict()) == before
        theirs.update(*pair(theirs.model))


@PAIRS
def test_a_damaged_state_is_refused(make) -> None:
    mine = make(Net(), ek.Categorical())
    mine.update(*pair(mine.model))
    before = leaves(mine.state_dict())
    for damage, message in (
        (lambda s: s.pop("blocks"), "there is no 'blocks' in it"),
        (lambda s: s["blocks"].pop(("last", 0)), "layer 'last', group 0: A is not a tensor"),
        (lambda s: s["blocks"]["last", 0].pop("Q_B"), "layer 'last', group 0: Q_B is not a tens"),
        (lambda s: s["blocks"]["last", 0].pop("A_count"), "group 0: A_count is not a number"),
        (lambda s: s.update(blocks=None), "blocks is of type NoneType; the state is damaged"),
        (lambda s: s.update(layers=[3]), "layers is of type list; the state is damaged"),
        (lambda s: s.update(updates="one"), "updates is of type str; the state is damaged"),
        (lambda s: s.update(scale=None), "scale is of type NoneType; the state is damaged"),
    ):
        state = copy.deepcopy(mine.state_dict())
        damage(state)
        with pytest.raises(ek.ProblemError, match=message):
            mine.load_state_dict(state)
        assert leaves(mine.state_dict()) == before


def built(make: Any, model: nn.Module, **settings: Any) -> Any:
    """An optimizer after one step."""
    chosen = make(model, ek.Categorical(), lr=0.1, damping=0.1, momentum=0.5, **settings)
    x, y = pair(model)
    chosen.update(x, y)
    backward(model, x, y)
    chosen.step()
    return chosen


@BOTH
@pytest.mark.parametrize("other", ["other names", "other shapes", "other dtype", "no curvature"])
def test_the_optimizer_refuses_it_too(make, other: str) -> None:
    """And nothing of it is changed: curvature, velocities, settings."""
    mine = built(make, Net())
    if other == "no curvature":
        state, message = torch.optim.SGD(Net().parameters()).state_dict(), "there is no curvature"
    else:
        state, message = built(make, OTHERS[other][0]()).state_dict(), "^state: "
    before = leaves(mine.state_dict())
    with pytest.raises(ek.ProblemError, match=message):
        mine.load_state_dict(state)
    assert leaves(mine.state_dict()) == before


@BOTH
@pytest.mark.parametrize("of_kind", [float, torch.tensor, np.float32], ids=lambda x: x.__name__)
def test_its_own_state_is_taken_whatever_number_decay_is(make, of_kind: Any) -> None:
    chosen = built(make, Net(), decay=of_kind(0.9))
    chosen.update(*pair(chosen.preconditioner.model))
    chosen.load_state_dict(through_a_file(chosen.state_dict()))


class OfTwoDtypes(nn.Module):
    """A layer in float32, and one in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2).double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x)).double())


@BOTH
def test_layers_of_several_dtypes_come_back_each_in_its_own(make) -> None:
    chosen = make(OfTwoDtypes(), ek.Categorical())
    chosen.update(torch.randn(6, 4), torch.randint(2, (6,)))
    before = leaves(chosen.state_dict())
    chosen.load_state_dict(through_a_file(chosen.state_dict()))
    assert leaves(chosen.state_dict()) == before
    assert [E.Q_B.dtype for E in chosen.preconditioner.operators.values()] == [
        torch.float32,
        torch.float64,
    ]


@BOTH
def test_what_is_no_state_of_an_optimizer_is_refused(make) -> None:
    mine = built(make, Net())
    before = leaves(mine.state_dict())
    for state, missing in (
        (None, "curvature"),
        ([1], "curvature"),
        ({"curvature": mine.preconditioner.state_dict()}, "param_groups"),
        ({k: v for k, v in mine.state_dict().items() if k != "state"}, "state"),
    ):
        with pytest.raises(ek.ProblemError, match=f"^state: there is no {missing} in it"):
            mine.load_state_dict(state)
        assert leaves(mine.state_dict()) == before


@BOTH
def test_other_groups_are_refused(make) -> None:
    """The same model, but parameters in another order, or velocities of other parameters."""
    model = Net()
    mine = built(make, model)
    parts = [{"params": list(layer.parameters())} for layer in (model.last, model.first)]
    before = leaves(mine.state_dict())
    with pytest.raises(ek.ProblemError, match=r"its groups have the parameters .*last.*first"):
        mine.load_state_dict(built(make, model, groups=parts).state_dict())
    state = copy.deepcopy(mine.state_dict())
    state["state"][0]["velocity"] = torch.zeros(3)
    with pytest.raises(ek.ProblemError, match=r"a velocity has shape \[3\], but its parameter"):
        mine.load_state_dict(state)
    assert leaves(mine.state_dict()) == before
