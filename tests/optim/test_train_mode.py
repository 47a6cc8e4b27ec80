"""Networks as people train them: the curvature is that of eval mode, the gradient the caller's."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot
from ekfac_ref.optim import EKFAC, KFAC, EKFACPreconditioner

BOTH = pytest.mark.parametrize("make", [EKFAC, KFAC])
LAYERS = ("0", "4")


def network() -> nn.Sequential:
    """One whose modes are two functions, after a few forwards that BatchNorm has averaged."""
    layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)]
    model = nn.Sequential(*layers).double()
    for _ in range(3):
        model(2 + 3 * torch.randn(8, 3).double())
    return model


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 3).double(), torch.randint(2, (6,))


def built(make, model: nn.Module):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loss = nn.CrossEntropyLoss()
        optimizer = make(
            model,
            loss,
            lr=0.1,
            damping=0.1,
            momentum=0.0,
            kl_clip=None,
            layers=LAYERS,
            recompute_every=1,
        )
    return optimizer, [str(one.message) for one in said]


@BOTH
def test_the_curvature_is_that_of_eval_mode(make) -> None:
    model, (x, y) = network(), data()
    in_eval = copy.deepcopy(model).eval()
    one, _ = built(make, model)
    other, _ = built(make, in_eval)
    for _ in range(2):
        one.update(x, y)
        other.update(x, y)
    for layer in LAYERS:
        left, right = (o.preconditioner.operators[layer].dense() for o in (one, other))
        assert torch.equal(left, right)
    problem = ek.Problem(in_eval, [(x, y)], ek.Categorical(), layers=LAYERS)
    if make is EKFAC:
        mine = one.preconditioner.operators["4"].dense()
        torch.testing.assert_close(mine, ek.ekfac(problem)["4"].dense())


@BOTH
def test_a_step_is_along_the_gradient_of_train_mode(make) -> None:
    model, (x, y) = network(), data()
    optimizer, _ = built(make, model)
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.update(x, y)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for layer in LAYERS:
        V, moved = (
            torch.cat([of[f"{layer}.weight"], of[f"{layer}.bias"][:, None]], 1)
            for of in (gradients, {n: before[n] - p for n, p in model.named_parameters()})
        )
        E = optimizer.preconditioner.own_operators[layer]
        torch.testing.assert_close(E.matvec(moved) + 0.1 * moved, 0.1 * V)
    plain = before["1.weight"] - 0.1 * gradients["1.weight"]
    torch.testing.assert_close(model[1].weight.detach(), plain)


@BOTH
def test_an_update_changes_neither_mode_nor_statistics_nor_random_numbers(make) -> None:
    model, (x, y) = network(), data()
    optimizer, _ = built(make, model)
    before = snapshot(model, x, y)
    optimizer.update(x, y)
    assert snapshot(model, x, y) == before
    assert all(module.training for module in model.modules())


@BOTH
def test_what_the_mode_changes_is_said_at_construction(make) -> None:
    (said,) = built(make, network())[1]
    assert "not in eval mode: '1', '3'." in said
    assert "The curvature is that of eval mode" in said
    assert built(make, network().eval())[1] == []
    half = network()
    half[1].eval()
    half[3].p = 0.0
    assert built(make, half)[1] == []  # in train mode, and that changes nothing


def test_a_preconditioner_says_it_too() -> None:
    with pytest.warns(UserWarning, match="The curvature is that of eval mode"):
        EKFACPreconditioner(network(), ek.Categorical(), layers=LAYERS)


@BOTH
def test_it_trains(make) -> None:
    """As a user would: BatchNorm and dropout, model.train(), and a loss that goes down."""
    model = network()
    x = torch.randn(64, 3).double()
    y = (x[:, 0] * x[:, 1] > 0).long()
    optimizer, _ = built(make, model)

    def loss() -> float:
        return nn.functional.cross_entropy(model.eval()(x), y).item()

    before, start = loss(), parameters_to_vector(model.parameters()).clone()
    for _ in range(30):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.update(x, y)
        optimizer.step()
    assert not torch.equal(start, parameters_to_vector(model.parameters()))
    assert loss() < 0.9 * before
