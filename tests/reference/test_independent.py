"""The reference against a plain autograd loop per sample that shares no code with it.

Columns come from the Hessian of torch's own losses, patches from index loops, every sum is written
out.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import ekfac_ref as ek
from tests.independent import two_layer_numpy
from tests.independent.kinds import KINDS
from tests.support import agreement
from tests.support.agreement import FISHERS, FLOAT32, FLOAT64, SHARINGS, error, worst

fishers = pytest.mark.parametrize(("fisher", "columns"), FISHERS, ids=["exact", "empirical"])
kinds = pytest.mark.parametrize("name", KINDS)


def test_the_loop_imports_nothing_of_the_package() -> None:
    files = list(Path(two_layer_numpy.__file__).parent.glob("*.py"))
    imports = re.compile(r"^\s*(?:from|import) +(?!tests\.independent)(?:ekfac_ref|tests)", re.M)
    assert [file.name for file in files if imports.search(file.read_text())] == []


@kinds
def test_empirical_gradients_sample_by_sample(name: str) -> None:
    assert worst(agreement.gradient_errors(KINDS[name]())) < FLOAT64


@kinds
@fishers
def test_exact_fisher(name: str, fisher, columns) -> None:
    assert worst(agreement.fisher_errors(KINDS[name](), fisher, columns)) < FLOAT64


@kinds
@fishers
@pytest.mark.parametrize("sharing", SHARINGS, ids=["expand", "reduce"])
def test_kfac_and_ekfac(name: str, fisher, columns, sharing) -> None:
    errors = agreement.kfac_and_ekfac_errors(KINDS[name](), fisher, columns, sharing)
    assert worst(errors) < FLOAT64


@kinds
@fishers
def test_full_fisher(name: str, fisher, columns) -> None:
    assert worst(agreement.full_fisher_errors(KINDS[name](), fisher, columns)) < FLOAT64


@kinds
def test_float32_is_float64_up_to_rounding(name: str) -> None:
    assert worst(agreement.float32_errors(KINDS[name]())) < FLOAT32


HEADS = {
    "squared error": (
        ek.Gaussian(),
        two_layer_numpy.squared_error_exact,
        two_layer_numpy.squared_error_empirical,
    ),
    "softmax": (
        ek.Categorical(),
        two_layer_numpy.softmax_exact,
        two_layer_numpy.softmax_empirical,
    ),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical()], ids=["exact", "empirical"])
def test_two_layers_differentiated_by_hand(head: str, fisher) -> None:
    """A network that no autograd has seen: Linear, tanh, Linear in numpy."""
    likelihood, exact, empirical = HEADS[head]
    rng = np.random.default_rng(3)
    W, V, X = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(5, 2))
    Y = rng.integers(3, size=5) if head == "softmax" else rng.normal(size=(5, 3))
    columns = exact if isinstance(fisher, ek.Exact) else empirical
    by_hand = two_layer_numpy.per_sample(W, V, X, Y, columns)

    model = torch.nn.Sequential(
        torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)
    ).double()
    with torch.no_grad():
        for layer, matrix in ((model[0], W), (model[2], V)):
            layer.weight.copy_(torch.as_tensor(matrix[:, :-1]))
            layer.bias.copy_(torch.as_tensor(matrix[:, -1]))
    x, y = torch.as_tensor(X), torch.as_tensor(Y)
    problem = ek.Problem(model, [(x[:2], y[:2]), (x[2:], y[2:])], likelihood, fisher=fisher)
    F, K = ek.exact_fisher(problem), ek.kfac(problem)
    for index, name in enumerate(("0", "2")):
        layers = [sample[index] for sample in by_hand]
        B, A = two_layer_numpy.kfac_factors(layers)
        assert error(F[name].dense(), torch.as_tensor(two_layer_numpy.fisher(layers))) < 1e-12
        assert error(K[name].dense(), torch.as_tensor(np.kron(B, A))) < 1e-12
