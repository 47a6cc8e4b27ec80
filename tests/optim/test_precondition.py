"""The preconditioned gradient, against dense matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFACPreconditioner, KFACPreconditioner
from tests.independent import matrices
from tests.independent.columns import gradient_columns, hessian_columns
from tests.independent.kinds import TwoInputs
from tests.independent.layouts import layers_of
from tests.independent.losses import half_squared_error
from tests.independent.plain_loop import per_sample_gradients
from tests.support.optim_cases import (
    ONE_OF_EACH,
    batch,
    close,
    kind,
    likelihood,
    matrix_of,
    some_gradients,
)

BOTH = pytest.mark.parametrize("make", [EKFACPreconditioner, KFACPreconditioner])


def updated(make, name: str, **choices):
    """After three uneven batches, in an old basis."""
    preconditioner = make(kind(name).model, likelihood(name), recompute_every=2, **choices)
    for samples in ([0, 1], [2], [2, 1, 0, 0]):
        preconditioner.update(*batch(name, samples))
    return preconditioner


@BOTH
@pytest.mark.parametrize("name", ONE_OF_EACH)
@settings(max_examples=4)
@given(seed=st.integers(0, 99), damping=st.sampled_from([1e-3, 0.1, 2.0, 1e3]))
def test_it_is_the_dense_inverse_times_the_gradient(make, name, seed, damping) -> None:
    """And it points downhill, and for large damping to where the gradient points."""
    preconditioner = updated(make, name, sharing=ek.Reduce())
    model = kind(name).model
    gradients = some_gradients(model, seed)
    found = preconditioner.precondition(gradients, damping)
    assert list(found) == list(gradients)
    for layer, E in preconditioner.operators.items():
        g = matrix_of(model, layer, gradients).reshape(-1)
        x = matrix_of(model, layer, found).reshape(-1)
        damped = E.dense() + damping * torch.eye(len(g)).double()
        assert close(x, torch.linalg.solve(damped, g), float(g.norm() / damping))
        assert x @ g > 0
        norm = torch.linalg.matrix_norm(E.dense(), 2)
        assert (damping * x - g).norm() <= (norm / damping + 1e-12) * g.norm()


@BOTH
@pytest.mark.parametrize(
    ("loss", "scale"),
    [
        (nn.MSELoss(), 2 / 2),
        (nn.MSELoss(reduction="sum"), 2 * 3),
        (nn.BCEWithLogitsLoss(), 1 / 2),
        (nn.PoissonNLLLoss(reduction="sum"), 3),
        (nn.CrossEntropyLoss(ignore_index=0), 3 / 2),
        (nn.CrossEntropyLoss(reduction="sum"), 3),
        (ek.Gaussian(), 1),
    ],
    ids=str,
)
def test_damping_is_added_to_the_operator_of_the_loss(make, loss, scale: float) -> None:
    """Three samples, two outputs, one of three labels ignored. With the empirical Fisher, c^2."""
    model, x = nn.Linear(3, 2).double(), torch.randn(3, 3).double()
    labels = torch.tensor([1, 0, 1])
    y = labels if isinstance(loss, nn.CrossEntropyLoss) else torch.eye(2).double()[labels]
    c = scale / (3 if getattr(loss, "reduction", "mean") == "sum" else 1)
    for fisher, s in ((ek.Exact(), scale), (ek.Empirical(), scale * c)):
        preconditioner = make(model, loss, fisher=fisher)
        preconditioner.update(x, y)
        assert preconditioner.scale == pytest.approx(s, rel=1e-15)
        gradients = some_gradients(model, 1)
        found = preconditioner.precondition(gradients, 0.2)
        g, x_found = (matrix_of(model, "", tensors).reshape(-1) for tensors in (gradients, found))
        E = preconditioner.operators[""].dense()
        assert close(s * E @ x_found + 0.2 * x_found, g)
        assert close(preconditioner.own_operators[""].dense(), s * E)


ONE_POSITION = {
    "linear": lambda: (nn.Linear(3, 2), (3,)),
    "conv1d": lambda: (nn.Conv1d(2, 3, 4), (2, 4)),
    "conv2d": lambda: (nn.Conv2d(2, 3, (2, 3)), (2, 2, 3)),
    "conv3d": lambda: (nn.Conv3d(1, 2, (1, 2, 3), bias=False), (1, 1, 2, 3)),
    "conv_transpose1d": lambda: (nn.ConvTranspose1d(3, 2, 1), (3, 1)),
    "conv_transpose2d": lambda: (nn.ConvTranspose2d(3, 2, 1, bias=False), (3, 1, 1)),
    "conv_transpose3d": lambda: (nn.ConvTranspose3d(2, 4, 1, groups=2), (2, 1, 1, 1)),
    "embedding": lambda: (nn.Embedding(4, 3), ()),
    "bilinear": lambda: (nn.Bilinear(2, 3, 2), None),
}


@BOTH
@pytest.mark.parametrize("name", ONE_POSITION)
@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical()])
def test_of_one_sample_and_one_position_it_is_the_natural_gradient(make, name, fisher) -> None:
    """(F + damping I)^-1 g with the exact block F of plain autograd, in a basis of that sample."""
    layer, shape = ONE_POSITION[name]()
    head = nn.Sequential(nn.Tanh(), nn.Flatten(), nn.LazyLinear(2))
    x = torch.randint(4, (1,)) if name == "embedding" else None
    if name == "bilinear":
        model = TwoInputs(layer, nn.Linear(2, 2)).double()
        x = (torch.randn(1, 2).double(), torch.randn(1, 3).double())
        f = model(*x)
    else:
        model = nn.Sequential(layer, head).double()
        x = torch.randn(1, *shape).double() if x is None else x
        f = model(x)
    y = torch.randn(f.shape).double()
    preconditioner = make(model, ek.Gaussian(), fisher=fisher)
    preconditioner.update(x, y)
    gradients = some_gradients(model, 2)
    found = preconditioner.precondition(gradients, 0.05)
    columns = hessian_columns if isinstance(fisher, ek.Exact) else gradient_columns
    G = per_sample_gradients(model, x, y, half_squared_error, columns)
    for layer_name, owners in layers_of(model).items():
        groups = getattr(owners[0], "groups", 1)
        g, x_found = (matrix_of(model, layer_name, tensors) for tensors in (gradients, found))
        for k in range(groups):
            F = matrices.fisher(matrices.gradients_of_group(G[layer_name], groups, k))
            own, own_x = (m.chunk(groups)[k].reshape(-1) for m in (g, x_found))
            damped = F + 0.05 * torch.eye(len(own)).double()
            assert close(own_x, torch.linalg.solve(damped, own), float(own.norm() / 0.05))


def test_where_ekfac_is_exact_and_kfac_is_not() -> None:
    """Orthogonal inputs and orthogonal gradients, of distinct norms: F has the eigenvectors
    g (x) a, and the pairing of their norms is what only Lambda holds.
    """
    model = nn.Linear(4, 3, bias=False).double()
    a = torch.diag(torch.tensor([1.0, 2.0, 3.0, 0.0]))[:3].double()
    g = torch.diag(torch.tensor([2.0, 3.0, 1.0])).double()
    y = model(a).detach() - g
    F = matrices.fisher([torch.outer(*ga)[None] for ga in zip(g, a, strict=True)])
    V = some_gradients(model, 0)
    exact = torch.linalg.solve(F + 0.1 * torch.eye(12).double(), V["weight"].reshape(-1))
    off = []
    for make in (EKFACPreconditioner, KFACPreconditioner):
        preconditioner = make(model, ek.Gaussian(), fisher=ek.Empirical())
        preconditioner.update(a, y)
        found = preconditioner.precondition(V, 0.1)["weight"].reshape(-1)
        off.append(float((found - exact).norm() / exact.norm()))
    assert off[0] < 1e-13
    assert off[1] > 0.1


def with_a_norm_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()


@BOTH
def test_other_parameters_keep_their_plain_gradient(make) -> None:
    """Which one says by naming the layers; new tensors all the same."""
    model = with_a_norm_layer()
    with pytest.raises(ek.ProblemError, match=r"parameter .1.weight. .* naming the layers"):
        make(model, ek.Gaussian())
    preconditioner = make(model, ek.Gaussian(), layers=("0",))
    preconditioner.update(torch.randn(5, 3).double(), torch.randn(5, 2).double())
    gradients = some_gradients(model, 0)
    kept = {name: g.clone() for name, g in gradients.items()}
    found = preconditioner.precondition(gradients, 0.1)
    for name, g in gradients.items():
        assert torch.equal(g, kept[name])
        assert found[name].data_ptr() != g.data_ptr()
        assert torch.equal(found[name], g) == (name not in ("0.weight", "0.bias"))


@BOTH
def test_in_place_it_is_the_same(make) -> None:
    """The same ``.grad`` tensors, and a layer without any is left alone."""
    model = with_a_norm_layer()
    preconditioner = make(model, ek.Gaussian(), layers=("0", "2"))
    preconditioner.update(torch.randn(5, 3).double(), torch.randn(5, 2).double())
    gradients = some_gradients(model, 0)
    expected = preconditioner.precondition(gradients, 0.1)
    parameters = dict(model.named_parameters())
    for name in gradients:
        parameters[name].grad = gradients[name].clone()
    model[2].zero_grad()
    was = {name: p.grad for name, p in parameters.items()}
    preconditioner.precondition_(0.1)
    for name, p in parameters.items():
        assert p.grad is was[name]
        assert p.grad is None or torch.equal(p.grad, expected[name])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_come_back_in_their_own_dtype(make, dtype) -> None:
    """The algebra of a half precision is in float32."""
    model = nn.Linear(3, 2).to(dtype)
    preconditioner = make(model, ek.Gaussian())
    preconditioner.update(torch.randn(5, 3).to(dtype), torch.randn(5, 2).to(dtype))
    gradients = some_gradients(model, 0)
    found = preconditioner.precondition(gradients, 0.1)
    g, x = (matrix_of(model, "", tensors).reshape(-1).float() for tensors in (gradients, found))
    E = preconditioner.operators[""].dense()
    assert E.dtype == torch.float32
    assert {x.dtype for x in found.values()} == {dtype}
    expected = torch.linalg.solve(E + 0.1 * torch.eye(8), g)
    torch.testing.assert_close(x, expected, rtol=0.02, atol=0.02)
