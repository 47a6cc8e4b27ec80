"""The copy that an optimizer keeps from update to update is the model as it is now."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.model.copies import modes, private_copy
from ekfac_ref.optim import EKFACPreconditioner

X, Y = torch.randn(6, 3), torch.randn(6, 2)
MORE, OTHERS = torch.randn(6, 3), torch.randn(6, 2)


class Scaled(nn.Module):
    """Multiplies by what it is told in many ways, of which every one is 1 at first."""

    size: float = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.number, self.several, self.named = 1.0, [1.0, (1.0,)], {"one": 1.0}
        self.chosen = {(1.0, "one"), (2.0, "two")}
        self.function: Callable[[Tensor], Tensor] = torch.tanh
        self.weight = nn.Parameter(torch.randn(4, 3))
        self.register_buffer("buffer", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        by_all = self.number * self.several[0] * self.several[1][0] * self.named["one"] * self.size
        by_all *= min(size for size, _ in self.chosen)
        y: Tensor = self.function(F.linear(x, self.weight))
        return y * by_all * self.buffer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    names = ("first", "middle", "norm", "last")
    parts = (nn.Linear(3, 3), Scaled(), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model = nn.Sequential()
    for name, part in zip(names, parts, strict=True):
        model.add_module(name, part)
    return model


def no_bigger(x: Tensor) -> Tensor:
    return x.clamp(max=0.1)


def assign(path: str, value: Any) -> Callable[[nn.Module], None]:
    owner, _, name = path.rpartition(".")
    return lambda model: setattr(model.get_submodule(owner), name, value)


def in_place(path: str, value: float) -> Callable[[nn.Module], None]:
    owner, _, name = path.rpartition(".")

    def change(model: nn.Module) -> None:
        with torch.no_grad():
            getattr(model.get_submodule(owner), name).mul_(value)

    return change


def of_list(model: nn.Module) -> None:
    model.get_submodule("middle").several[0] = 2.0


def in_tuple(model: nn.Module) -> None:
    model.get_submodule("middle").several[1] = (2.0,)


def of_dict(model: nn.Module) -> None:
    model.get_submodule("middle").named["one"] = 2.0


def of_class(model: nn.Module) -> None:
    class Larger(Scaled):
        size = 2.0

    model.get_submodule("middle").__class__ = Larger


def memory(model: nn.Module) -> None:
    last = model.get_submodule("last")
    last.weight.data = 2 * last.weight.data


def hook(model: nn.Module) -> None:
    model.get_submodule("middle").register_forward_hook(lambda module, args, y: 2 * y)


def hook_without_closure(model: nn.Module) -> None:
    def halve(module: nn.Module, args: Any, y: Tensor) -> Tensor:
        return y / 2

    model.get_submodule("middle").register_forward_pre_hook(lambda module, args: (2 * args[0],))
    model.get_submodule("middle").register_forward_hook(halve)


def another_module(model: nn.Sequential) -> None:
    model.middle = Scaled()
    model.middle.weight = nn.Parameter(torch.ones(4, 3))


CHANGES: dict[str, Callable[[Any], None]] = {
    "number": assign("middle.number", 2.0),
    "list": of_list,
    "tuple": in_tuple,
    "dict": of_dict,
    "set": lambda model: model.get_submodule("middle").chosen.remove((1.0, "one")),
    "function": assign("middle.function", torch.sin),
    "own function": assign("middle.function", no_bigger),
    "class": of_class,
    "hook": hook,
    "hook without closure": hook_without_closure,
    "module": another_module,
    "module inside": lambda model: setattr(model, "norm", nn.Sequential(model.norm, nn.Sigmoid())),
    "memory": memory,
    "weight": in_place("first.weight", 2.0),
    "buffer": in_place("middle.buffer", 2.0),
    "new buffer": assign("middle.buffer", torch.full((4,), 2.0)),
    "statistics": in_place("norm.running_var", 4.0),
    "eval": lambda model: model.eval(),
    "nothing": lambda model: None,
}


class Normed(nn.Linear):
    """Keeps what its first forward finds, on itself: a copy's is not the caller's."""

    norm: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            self.norm = float(self.weight.detach().norm())
        return super().forward(x) / self.norm


def preconditioner(model: nn.Module) -> EKFACPreconditioner:
    return EKFACPreconditioner(
        model, ek.Gaussian(), layers=("first", "last"), decay=0.0, recompute_every=1
    )


def check_as_fresh(kept: EKFACPreconditioner) -> None:
    """One more update is that of a preconditioner that sees the model for the first time."""
    kept.update(MORE, OTHERS)
    layers = tuple(layer.name for layer in kept.layers)
    fresh = EKFACPreconditioner(
        kept.model, ek.Gaussian(), layers=layers, decay=0.0, recompute_every=1
    )
    fresh.update(MORE, OTHERS)
    for name, E in fresh.operators.items():
        assert torch.equal(kept.operators[name].dense(), E.dense())


@pytest.mark.filterwarnings("ignore:model. these modules compute in train mode")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_update_is_of_the_model_as_it_is_now(change: Callable[[Any], None]) -> None:
    model = network()
    kept = preconditioner(model)
    kept.update(X, Y)
    change(model)
    check_as_fresh(kept)


def test_what_a_forward_keeps_is_not_kept() -> None:
    model = nn.Sequential(Normed(3, 4), nn.Linear(4, 2))
    kept = EKFACPreconditioner(model, ek.Gaussian(), layers=("1",), decay=0.0, recompute_every=1)
    kept.update(X, Y)
    in_place("0.weight", 2.0)(model)
    check_as_fresh(kept)


@pytest.mark.filterwarnings("ignore:model. these modules compute in train mode")
def test_what_a_function_remembers_is_what_it_is_now() -> None:
    factor, model = 1.0, network()
    model.get_submodule("middle").function = lambda x: factor * x
    kept = preconditioner(model)
    kept.update(X, Y)
    factor = 2.0
    check_as_fresh(kept)


def test_memory_that_is_shared_later_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    kept = EKFACPreconditioner(model, ek.Gaussian())
    kept.update(X, Y)
    model[1].weight.data = model[0].weight.data[:2]
    with pytest.raises(ek.ProblemError, match="shares its memory with"):
        kept.update(X, Y)


@pytest.mark.filterwarnings("ignore:model. these modules compute in train mode")
@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"nothing", "eval"}))
def test_every_change_makes_a_difference(name: str) -> None:
    one, two = network(), network()
    CHANGES[name](two)
    assert not torch.equal(one.eval()(X), two.eval()(X))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
    "statistics": lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(4, 2)
    ),
    "transformer": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 1)),
        nn.Linear(1, 4),
        nn.TransformerEncoderLayer(4, 1, 4, batch_first=True),
        nn.Flatten(),
        nn.Linear(12, 2),
    ),
    "parametrized": lambda: nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)), nn.Linear(4, 2)
    ),
}


@pytest.mark.filterwarnings("ignore:model. these modules compute in train mode")
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_a_model_that_only_learns_is_copied_once(
    build: Callable[[], nn.Sequential], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    copies: list[nn.Module] = []

    def noted(of: nn.Module) -> nn.Module:
        copies.append(of)
        return private_copy.copy_of(of)

    monkeypatch.setattr(modes, "copy_of", noted)
    ours = EKFACPreconditioner(model, ek.Gaussian(), layers=(str(len(model) - 1),))
    for _ in range(3):
        ours.update(torch.randn(5, 3), torch.randn(5, 2))
        model(torch.randn(5, 3)).sum().backward()
        in_place(f"{len(model) - 1}.weight", 0.9)(model)
    assert len(copies) == 1


def test_an_update_in_inference_mode_leaves_the_next_one_as_it_is() -> None:
    model = network().eval()
    kept = preconditioner(model)
    with torch.inference_mode():
        kept.update(X, Y)
    check_as_fresh(kept)
