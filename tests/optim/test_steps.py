"""What one step of the optimizers makes of gradients, by loops written out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC
from tests.support.optim_cases import close, matrix_of, some_gradients
from tests.support.optim_runs import Values, backward, data, equal, give, network, optimizer, values

pytestmark = pytest.mark.shapes

BOTH = pytest.mark.parametrize("make", [EKFAC, KFAC])


@BOTH
@settings(max_examples=6)
@given(
    momentum=st.sampled_from([0.0, 0.5, 0.9]),
    decay=st.sampled_from([0.0, 0.3]),
    kl_clip=st.sampled_from([None, 1e-4, 1e-2, 1e9]),
    seed=st.integers(0, 99),
)
def test_momentum_decay_and_trust_region_written_out(make, momentum, decay, kl_clip, seed) -> None:
    """x, v = momentum v + x, Delta = -lr v, nu, theta, and nu v is what is kept."""
    model = network()
    chosen = optimizer(make, model, momentum=momentum, weight_decay=decay, kl_clip=kl_clip)
    theta, v = values(model), {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for t in range(3):
        chosen.update(*data(seed + t, 3 + t))
        gradients = some_gradients(model, seed + t)
        give(model, gradients)
        x = chosen.preconditioner.precondition(gradients, 0.01)
        v = {name: momentum * v[name] + x[name] for name in v}
        Delta = {name: -0.1 * v[name] for name in v}
        twice_kl = 0.0
        for layer, E in chosen.preconditioner.operators.items():
            step = matrix_of(model, layer, Delta).reshape(-1)
            twice_kl += float(step @ E.dense() @ step)
        nu = 1.0 if kl_clip is None else min(1.0, (2 * kl_clip / twice_kl) ** 0.5)
        v = {name: nu * v[name] for name in v}
        theta = {n: theta[n] - 0.1 * decay * theta[n] + nu * Delta[n] for n in theta}
        chosen.step()
        for name, p in model.named_parameters():
            assert close(p.detach(), theta[name]), name
            assert torch.equal(p.grad, gradients[name])


@BOTH
def test_the_trust_region_holds_exactly_where_it_binds(make) -> None:
    """1/2 Delta^T E Delta = kl_clip, E of the unit likelihood, whatever the scale of the loss."""
    for loss in (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum")):
        model = network()
        chosen = make(model, loss, layers=("0", "3"), lr=10.0, damping=1e-3, kl_clip=1e-3)
        chosen.update(*data())
        before = values(model)
        give(model, some_gradients(model, 0))
        chosen.step()
        Delta = {name: p - before[name] for name, p in values(model).items()}
        kl = 0.0
        for layer, E in chosen.preconditioner.operators.items():
            step = matrix_of(model, layer, Delta)
            kl += float((step * E.matvec(step)).sum()) / 2
        assert kl == pytest.approx(1e-3, rel=1e-9)
        assert (Delta["2.weight"] != 0).all()


@BOTH
def test_half_of_the_quadratic_form_is_the_kl_divergence(make) -> None:
    """Of one layer, N = 1: E = F, and KL(p || p') / kl_clip tends to 1 as the clip tends to 0."""
    model = nn.Linear(3, 4).double()
    x, y = torch.randn(1, 3).double(), torch.tensor([2])
    before = torch.log_softmax(model(x).detach(), 1)
    chosen = make(model, ek.Categorical(), lr=1e6, damping=1e-2, kl_clip=1e-8)
    chosen.update(x, y)
    nn.functional.cross_entropy(model(x), y).backward()
    chosen.step()
    after = torch.log_softmax(model(x).detach(), 1)
    kl = nn.functional.kl_div(after, before, log_target=True, reduction="sum")
    assert float(kl) == pytest.approx(1e-8, rel=1e-3)


@BOTH
@settings(max_examples=5)
@given(momentum=st.sampled_from([0.0, 0.9]), damping=st.sampled_from([1e6, 1e8]))
def test_with_huge_damping_it_walks_like_sgd(make, momentum: float, damping: float) -> None:
    """lr damping fixed: every direction is within ||s E|| / damping of the gradient."""
    ours, theirs = network(), network()
    chosen = optimizer(make, ours, lr=0.1 * damping, damping=damping, momentum=momentum)
    sgd = torch.optim.SGD(theirs.parameters(), 0.1, momentum)
    # The plain parameters have no damping to divide by; they would walk lr, not lr / damping.
    for model in (ours, theirs):
        model[2].requires_grad_(False)
    for t in range(5):
        chosen.update(*data(t))
        for model, one in ((ours, chosen), (theirs, sgd)):
            backward(model, *data(t))
            one.step()
    moved = sum(
        float((p - q).norm())
        for p, q in zip(values(network()).values(), values(theirs).values(), strict=True)
    )
    for p, q in zip(values(ours).values(), values(theirs).values(), strict=True):
        assert (p - q).norm() < 100 / damping * moved
    assert moved > 0.01


@BOTH
def test_the_gradient_that_is_found_is_what_is_preconditioned(make) -> None:
    """Accumulated over two batches, then clipped; and it is still there after the step."""
    model = network()
    chosen = optimizer(make, model, kl_clip=None)
    chosen.update(*data())
    model.zero_grad()
    for seed in (1, 2):
        nn.functional.cross_entropy(model(data(seed)[0]), data(seed)[1]).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.01)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert sum(g.square().sum() for g in gradients.values()).sqrt() < 0.0101
    before = values(model)
    expected = chosen.preconditioner.precondition(gradients, 0.01)
    chosen.step()
    for name, p in model.named_parameters():
        assert close(p.detach(), before[name] - 0.1 * expected[name])
        assert torch.equal(p.grad, gradients[name])


def trajectory(make: Any, between: Callable[[nn.Module, Any], None]) -> Values:
    model = network()
    chosen = optimizer(make, model, momentum=0.9, kl_clip=1e-2, fisher=ek.Sampled(1, seed=2))
    for t in range(3):
        chosen.update(*data(t))
        backward(model, *data(t))
        between(model, chosen)
        chosen.step()
    return values(model)


@BOTH
def test_a_validation_forward_between_backward_and_step_changes_nothing(make) -> None:
    def validate(model: nn.Module, chosen: Any) -> None:
        with torch.no_grad():
            model(data(50, 20)[0])
        nn.functional.cross_entropy(model(data(51)[0]), data(51)[1])

    assert equal(trajectory(make, lambda *_: None), trajectory(make, validate))


@BOTH
def test_autocast_around_a_step_changes_nothing(make) -> None:
    """It would round what is multiplied with matrices, which are in the model's own dtype."""
    x, y = data()
    ends = []
    for on in (False, True):
        model = network().float()
        chosen = optimizer(make, model, momentum=0.9, kl_clip=1e-4)
        chosen.update(x.float(), y)
        backward(model, x.float(), y)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
            chosen.step()
            chosen.preconditioner.precondition_(0.1)
        ends.append([(p.detach(), p.grad) for p in model.parameters()])
    torch.testing.assert_close(*ends, rtol=0, atol=0)


@BOTH
def test_other_random_numbers_change_nothing(make) -> None:
    def draw(model: nn.Module, chosen: Any) -> None:
        torch.manual_seed(torch.randint(99, ()).item())

    assert equal(trajectory(make, lambda *_: None), trajectory(make, draw))


@BOTH
def test_a_closure_is_evaluated_once_before_and_takes_in_no_curvature(make) -> None:
    model, twin, calls = network(), network(), []
    chosen, other = optimizer(make, model), optimizer(make, twin)
    for one in (chosen, other):
        one.update(*data())

    def closure() -> Tensor:
        assert torch.is_grad_enabled()
        calls.append(values(model))
        return backward(model, *data(1))

    with torch.no_grad():
        loss = chosen.step(closure)
    expected = backward(twin, *data(1))
    assert other.step() is None
    assert torch.equal(loss, expected)
    assert equal(values(model), values(twin))
    assert len(calls) == 1
    assert equal(calls[0], values(network()))
    assert chosen.preconditioner.updates == 1


@BOTH
def test_a_scheduler_sets_the_learning_rate(make) -> None:
    model = network()
    chosen = optimizer(make, model)
    scheduler = torch.optim.lr_scheduler.StepLR(chosen, 1, gamma=0.5)
    chosen.update(*data())
    gradients = some_gradients(model, 0)
    x = chosen.preconditioner.precondition(gradients, 0.01)
    theta = values(model)
    for t in range(3):
        give(model, gradients)
        chosen.step()
        scheduler.step()
        theta = {name: theta[name] - 0.1 * 0.5**t * x[name] for name in theta}
    assert all(close(p.detach(), theta[name]) for name, p in model.named_parameters())


@BOTH
def test_every_group_has_settings_of_its_own(make) -> None:
    """And what is in no group stays as it is; one parameter without gradient is skipped."""
    model = network()
    first = {"params": model[0].parameters(), "lr": 0.5, "damping": 1.0, "weight_decay": 0.2}
    norm = {"params": [model[2].weight, model[2].bias], "momentum": 0.5}
    chosen = optimizer(make, model, groups=[first, norm])
    chosen.update(*data())
    gradients, theta = some_gradients(model, 0), values(model)
    del gradients["2.bias"]
    of_layers = {n: g for n, g in gradients.items() if n[0] != "2"}
    x = chosen.preconditioner.precondition(of_layers, 1.0)
    for _ in range(2):
        give(model, gradients)
        chosen.step()
    for name, p in model.named_parameters():
        expected = theta[name]
        if name[0] == "0":
            for _ in range(2):
                expected = 0.9 * expected - 0.5 * x[name]
        if name == "2.weight":
            expected = expected - 0.1 * (1 + 1.5) * gradients[name]
        assert close(p.detach(), expected), name


@BOTH
def test_a_group_added_later_is_like_one_from_the_start(make) -> None:
    def run(later: bool) -> Values:
        model = network()
        groups = [{"params": list(model[0].parameters())}, {"params": list(model[3].parameters())}]
        chosen = optimizer(make, model, groups=groups[:1] if later else groups)
        if later:
            chosen.add_param_group(groups[1])
        chosen.update(*data())
        backward(model, *data())
        chosen.step()
        return values(model)

    assert equal(run(True), run(False))


@BOTH
def test_a_layer_without_any_gradient_is_skipped(make) -> None:
    """As everywhere in torch: it does not decay either."""
    model = network()
    chosen = optimizer(make, model, weight_decay=0.5, momentum=0.9, kl_clip=1.0)
    chosen.update(*data())
    backward(model, *data())
    model[0].zero_grad()
    before = values(model)
    chosen.step()
    moved = {name for name, p in values(model).items() if not torch.equal(p, before[name])}
    assert moved == {"2.weight", "2.bias", "3.weight", "3.bias"}
