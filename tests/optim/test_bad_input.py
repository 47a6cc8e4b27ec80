"""What bad input gets: an error that says what, where and what to do, and everything as before."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC, EKFACPreconditioner, KFACPreconditioner
from tests.support.optim_cases import some_gradients
from tests.support.optim_runs import backward, data, equal, give, leaves, network, optimizer, values

BOTH = pytest.mark.parametrize("make", [EKFAC, KFAC])
PAIRS = pytest.mark.parametrize("make", [EKFACPreconditioner, KFACPreconditioner])


class Unmoved:
    """Within it an error is raised, and parameters, gradients and state stay as they were."""

    def __init__(self, model: nn.Module, chosen: Any, message: str) -> None:
        self.model, self.chosen = model, chosen
        self.raises = pytest.raises(ek.ProblemError, match=message)

    def facts(self) -> tuple:
        grads = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        return values(self.model), grads, leaves(self.chosen.state_dict())

    def __enter__(self) -> None:
        self.before = self.facts()
        self.raises.__enter__()

    def __exit__(self, *error: Any) -> bool:
        raised = self.raises.__exit__(*error)
        for before, after in zip(self.before[:2], self.facts()[:2], strict=True):
            assert list(before) == list(after)
            for name in before:  # NaN equals NaN here
                torch.testing.assert_close(
                    after[name], before[name], rtol=0, atol=0, equal_nan=True
                )
        assert str(self.facts()[2]) == str(self.before[2])
        return raised


@BOTH
def test_step_before_update(make) -> None:
    model = network()
    chosen = optimizer(make, model)
    backward(model, *data())
    message = r"there is none yet; call update\(inputs, targets\)"
    with Unmoved(model, chosen, message):
        chosen.step()
    preconditioner = chosen.preconditioner
    for ask in (
        lambda: preconditioner.precondition(some_gradients(model, 0), 0.1),
        lambda: preconditioner.precondition_(0.1),
        lambda: preconditioner.operators,
        lambda: preconditioner.factors,
    ):
        with Unmoved(model, chosen, message):
            ask()


X, Y = data()
BAD_BATCHES = {
    "another width": (X[:, :2], Y, "layer '0': it cannot take its input"),
    "another structure": ({"y": X}, Y, "its forward failed on one sample"),
    "fewer labels": (X, Y[:3], r"axis 0 counts the samples .* has \[7, 3\]"),
    "no samples": (X[:0], Y[:0], "axis 0 counts the samples"),
    "NaN": (X * float("nan"), Y, "inputs: NaN or infinity"),
    "overflow": (
        X * 1e200,
        Y,
        "layer '0': its inputs or gradients are too large for torch.float64",
    ),
    "a label too high": (X, Y + 5, "label . is out of range"),
    "labels that are numbers": (X, Y.double(), "integer class labels"),
    "another dtype": (X.float(), Y, "inputs are torch.float32, its weight torch.float64"),
}


@BOTH
@pytest.mark.parametrize("bad", BAD_BATCHES)
@pytest.mark.parametrize("updates", [0, 2])
def test_a_bad_batch_leaves_the_running_state_intact(make, bad: str, updates: int) -> None:
    x, y, message = BAD_BATCHES[bad]
    model = network()
    chosen = optimizer(make, model)
    for _ in range(updates):
        chosen.update(X, Y)
    with Unmoved(model, chosen, message):
        chosen.update(x, y)
    backward(model, X, Y)
    chosen.update(X, Y)
    chosen.step()


@BOTH
def test_a_model_that_changed_is_refused(make) -> None:
    model = network()
    chosen = optimizer(make, model)
    model[0].bias.requires_grad_(False)
    with Unmoved(model, chosen, "its layers, parameters, shapes and groups are now"):
        chosen.update(X, Y)
    model[0].bias.requires_grad_(True)
    model.append(nn.BatchNorm1d(2, affine=False, track_running_stats=False))
    with Unmoved(model, chosen, "without running statistics"):
        chosen.update(X, Y)


def put(model: nn.Module, name: str, value: torch.Tensor | None) -> None:
    dict(model.named_parameters())[name].grad = value


BAD_GRADIENTS = {
    "NaN": ("0.weight", torch.full((4, 3), float("nan")), "NaN or infinity in that of '0.weight'"),
    "infinity": ("3.bias", torch.tensor([0, float("inf")]), "NaN or infinity in that of '3.bias'"),
    "elsewhere": ("2.bias", torch.full((4,), float("nan")), "NaN or infinity in that of '2.bias'"),
    "half a layer": ("0.bias", None, "one for '0.weight', but none for '0.bias'"),
    "the other half": ("0.weight", None, "one for '0.bias', but none for '0.weight'"),
}


@BOTH
@pytest.mark.parametrize("bad", BAD_GRADIENTS)
def test_bad_gradients(make, bad: str) -> None:
    """Of step, precondition_ and precondition; with velocities to lose."""
    name, value, message = BAD_GRADIENTS[bad]
    model = network()
    chosen = optimizer(make, model, momentum=0.9, kl_clip=1e-2, weight_decay=0.1)
    chosen.update(X, Y)
    backward(model, X, Y)
    chosen.step()
    put(model, name, None if value is None else value.double())
    with Unmoved(model, chosen, message):
        chosen.step()
    with Unmoved(model, chosen, message):
        chosen.preconditioner.precondition_(0.1)
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    with Unmoved(model, chosen, message):
        chosen.preconditioner.precondition(gradients, 0.1)


@BOTH
def test_parameters_without_values_are_refused_at_construction(make) -> None:
    for model, message in (
        (nn.Sequential(nn.LazyLinear(2)), "it has no shape yet; call the model once"),
        (nn.Linear(3, 2).to("meta"), "it is on the meta device"),
        (nn.Linear(3, 2, dtype=torch.complex64), "complex"),
    ):
        with pytest.raises(ek.ProblemError, match=message):
            make(model, ek.Gaussian(), lr=0.1, damping=0.1, momentum=0.0, kl_clip=None)


@PAIRS
def test_gradients_by_name(make) -> None:
    model = network()
    chosen = make(model, ek.Categorical(), layers=("0", "3"))
    chosen.update(X, Y)
    good = some_gradients(model, 0)
    with Unmoved(model, chosen, r"that of '0.weight' has \[3, 4\], but the parameter \[4, 3\]"):
        chosen.precondition({**good, "0.weight": good["0.weight"].T}, 0.1)
    with Unmoved(model, chosen, "has torch.float32, but the parameter torch.float64"):
        chosen.precondition({**good, "2.bias": good["2.bias"].float()}, 0.1)
    with Unmoved(model, chosen, "the model has no parameter '4.weight'"):
        chosen.precondition({**good, "4.weight": good["0.weight"]}, 0.1)
    rest = {name: g for name, g in good.items() if not name.startswith("3")}
    with Unmoved(model, chosen, "there is none for '3.weight'; give one for every parameter"):
        chosen.precondition(rest, 0.1)
    with Unmoved(model, chosen, r"no parameter has one; call loss.backward\(\)"):
        chosen.precondition_(0.1)


@PAIRS
def test_eigenvalues_that_overflow_where_factors_do_not(make) -> None:
    model = nn.Linear(2, 2, bias=False)
    preconditioner = make(model, ek.Gaussian(), fisher=ek.Empirical())
    x = 1e15 * torch.eye(2)
    with pytest.raises(ek.ProblemError, match="layer '': its gradients are too large for"):
        preconditioner.update(x, x)
    assert preconditioner.updates == 0


@BOTH
@pytest.mark.parametrize("damping", [0.0, -1e-3])
def test_damping_that_does_not_make_a_singular_block_positive(make, damping: float) -> None:
    """Two samples do not fill two layers of this size."""
    model = network()
    chosen = optimizer(make, model, damping=damping, momentum=0.9)
    chosen.update(X[:2], Y[:2])
    backward(model, X, Y)
    with Unmoved(model, chosen, "layer '0': damping: .* does not make this block positive def"):
        chosen.step()
    with Unmoved(model, chosen, "choose damping > "):
        chosen.preconditioner.precondition_(damping)
    chosen.param_groups[0]["damping"] = 0.1
    chosen.step()


@PAIRS
def test_a_regular_block_needs_no_damping(make) -> None:
    model = nn.Linear(2, 2).double()
    chosen = make(model, ek.Gaussian())
    chosen.update(data(0, 9)[0][:, :2], torch.randn(9, 2).double())
    g = some_gradients(model, 0)
    x = chosen.precondition(g, 0.0)
    V = torch.cat([x["weight"], x["bias"][:, None]], 1)
    torch.testing.assert_close(chosen.operators[""].matvec(V)[:, :2], g["weight"])


@BOTH
def test_a_step_that_overflows(make) -> None:
    model = network()
    chosen = optimizer(make, model, lr=1e300, momentum=0.9)
    chosen.update(X, Y)
    give(model, {name: 1e9 * g for name, g in some_gradients(model, 0).items()})
    with Unmoved(model, chosen, "parameter '0.weight': its step overflows"):
        chosen.step()
    assert not chosen.state
    clipped = optimizer(make, model, lr=1e200, momentum=0.9, kl_clip=1.0)
    clipped.update(X, Y)
    backward(model, X, Y)
    with Unmoved(model, clipped, "kl_clip: the KL divergence of this step overflows"):
        clipped.step()


@BOTH
def test_settings_that_are_changed_later(make) -> None:
    """By a scheduler, say: of the second group, and the first one has not moved, either."""
    model = network()
    groups = [{"params": list(model[k].parameters())} for k in (0, 3)]
    chosen = optimizer(make, model, groups=groups, momentum=0.9)
    chosen.update(X, Y)
    backward(model, X, Y)
    for name, value, message in (
        ("lr", -0.1, "lr: -0.1 is not a finite number >= 0"),
        ("momentum", float("nan"), "momentum: nan is not a finite number"),
        ("weight_decay", None, "weight_decay: None is not a finite number"),
        ("weight_decay", float("nan"), "weight_decay: nan is not a finite number"),
        ("weight_decay", 1e308 * 100.0, "weight_decay: inf is not a finite number"),
        ("damping", "0.1", "damping: '0.1' is not a finite number"),
    ):
        kept = chosen.param_groups[1][name]
        chosen.param_groups[1][name] = value
        with Unmoved(model, chosen, message):
            chosen.step()
        chosen.param_groups[1][name] = kept
    chosen.param_groups[1]["lr"], chosen.param_groups[1]["weight_decay"] = 1e5, 1e307
    with Unmoved(model, chosen, "parameter '3.weight': it would be NaN or infinite after this"):
        chosen.step()


@BOTH
def test_groups_that_split_a_layer(make) -> None:
    """At construction, and later; nothing is added."""
    model = network()
    message = "one has '0.weight', but not '0.bias', and the layer '0' is preconditioned as one"
    with pytest.raises(ek.ProblemError, match=message):
        optimizer(make, model, groups=[{"params": [model[0].weight]}, {"params": [model[0].bias]}])
    chosen = optimizer(make, model, groups=[{"params": list(model[3].parameters())}])
    foreign = nn.Parameter(torch.zeros(2, 3))
    for parameters, said in (
        ([model[0].weight], message),
        ([model[0].bias], "one has '0.bias', but not '0.weight'"),
        ([model[0].weight, model[2].bias], message),
        ([foreign], r"one has a parameter \(\[2, 3\]\) that is not of the model"),
        ([model[3].weight, model[3].bias], "'3.weight' is in them twice"),
        ([model[2].bias, model[2].bias], "'2.bias' is in them twice"),
    ):
        with Unmoved(model, chosen, said):
            chosen.add_param_group({"params": parameters})
    with Unmoved(model, chosen, "a setting 'kl_clip'; only lr, momentum, weight_decay, damping"):
        chosen.add_param_group({"params": [model[2].bias], "kl_clip": 1.0})
    with Unmoved(model, chosen, "one has a set of parameters"):
        chosen.add_param_group({"params": {model[2].bias}})
    with Unmoved(model, chosen, "lr: -1 is not a finite number >= 0"):
        chosen.add_param_group({"params": [model[2].bias], "lr": -1})
    assert len(chosen.param_groups) == 1


@BOTH
def test_settings(make) -> None:
    for settings, message in (
        ({"lr": -0.1}, "lr: -0.1 is not a finite number >= 0"),
        ({"momentum": float("nan")}, "momentum: nan is not a finite number"),
        ({"weight_decay": -1.0}, "weight_decay: -1.0 is not a finite number >= 0"),
        ({"damping": float("inf")}, "damping: inf is not a finite number"),
        ({"lr": "a"}, "lr: 'a' is not a finite number"),
        ({"lr": torch.ones(2)}, r"lr: tensor\(\[1., 1.\]\) is not a finite number"),
        ({"momentum": None}, "momentum: None is not a finite number"),
        ({"weight_decay": None}, "weight_decay: None is not a finite number"),
        ({"damping": None}, "damping: None is not a finite number"),
        ({"damping": "1e-3"}, "damping: '1e-3' is not a finite number"),
        ({"decay": None}, r"decay: None is not in \[0, 1\]"),
        ({"kl_clip": "1e-3"}, "kl_clip: '1e-3' is not > 0"),
        ({"kl_clip": 0.0}, "kl_clip: 0.0 is not > 0"),
        ({"decay": 1.5}, r"decay: 1.5 is not in \[0, 1\]"),
        ({"recompute_every": 0}, "recompute_every: 0 is not a number of updates"),
        ({"layers": ("7",)}, "layers: there is no module '7'"),
        ({"layers": None}, "parameter '2.weight' .of a LayerNorm. is trainable"),
    ):
        with pytest.raises(ek.ProblemError, match=message):
            optimizer(make, network(), **settings)
    with pytest.raises(ek.ProblemError, match="loss: L1Loss is not a likelihood known here"):
        make(network(), nn.L1Loss(), lr=0.1, damping=0.1, layers=("0", "3"))


@BOTH
def test_numbers_of_all_kinds_are_settings(make) -> None:
    one, half = torch.tensor(1.0), np.float32(0.5)
    chosen = optimizer(make, network(), lr=one, damping=half, momentum=half, kl_clip=half, decay=1)
    (group,) = chosen.param_groups
    assert (group["lr"], group["damping"], group["momentum"]) == (one, half, half)
    assert chosen.kl_clip == half


@PAIRS
def test_a_damping_that_is_no_number(make) -> None:
    model = network()
    chosen = make(model, ek.Categorical(), layers=("0", "3"))
    chosen.update(X, Y)
    for damping in (None, "0.1"):
        with Unmoved(model, chosen, f"damping: {damping!r} is not a number; pass one in units"):
            chosen.precondition(some_gradients(model, 0), damping)


BAD_GROUPS = {
    "parameters": lambda m: m.parameters(),
    "a list of them": lambda m: list(m.parameters()),
    "named ones": lambda m: m.named_parameters(),
    "one group": lambda m: {"params": m.parameters()},
    "a number": lambda m: 5,
    "nothing": lambda m: [],
    "no params": lambda m: [{"lr": 0.1}],
}


@BOTH
@pytest.mark.parametrize("bad", BAD_GROUPS)
def test_groups_that_are_no_list_of_dicts(make, bad: str) -> None:
    """And what the message says works: a list of dicts, or none."""
    model = network()
    with pytest.raises(ek.ProblemError, match=r"no list of dicts with params; pass .* or leave"):
        optimizer(make, model, groups=BAD_GROUPS[bad](model))
    optimizer(make, model)
    chosen = optimizer(make, model, groups=[{"params": model[0].parameters(), "lr": 0.2}])
    with Unmoved(model, chosen, "no list of dicts with params"):
        chosen.add_param_group(BAD_GROUPS[bad](model) if bad != "one group" else 5)
    with Unmoved(model, chosen, "one has the params None; pass a list"):
        chosen.add_param_group({"params": None})


def test_nothing_was_changed_is_seen() -> None:
    """This file's own check notices a change."""
    model = network()
    chosen = optimizer(EKFAC, model)

    def change_and_raise() -> None:
        with Unmoved(model, chosen, "some error"):
            chosen.update(X, Y)
            raise ek.ProblemError("some error")

    with pytest.raises(AssertionError):
        change_and_raise()
    assert equal(values(model), values(network()))
