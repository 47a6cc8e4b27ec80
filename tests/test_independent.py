"""The reference against a plain autograd loop per sample that shares no code with it.

``tests/independent`` imports nothing of the package and uses no torch.func: columns from the
Hessian of torch's own losses, patches by index loops, every sum written out.
"""

import copy

import numpy as np
import pytest
import torch

import ekfac_ref as ek
from ekfac_ref.operators import BlockDiagonal

from .independent import losses, matrices, two_layer_numpy
from .independent.columns import gradient_columns, hessian_columns
from .independent.kinds import KINDS, Kind
from .independent.layouts import groups_of, layers_of
from .independent.plain_loop import per_sample_gradients
from .independent.positions import per_sample_positions

LIKELIHOOD = {
    losses.half_squared_error: ek.Gaussian(),
    losses.cross_entropy: ek.Categorical(class_axis=1),
    losses.token_cross_entropy: ek.Categorical(),
    losses.bernoulli: ek.Bernoulli(),
    losses.poisson: ek.Poisson(),
}
FISHERS = [(ek.Exact(), hessian_columns), (ek.Empirical(), gradient_columns)]
SHARINGS = [
    (ek.Expand(), matrices.expand_A, matrices.expand_B),
    (ek.Reduce(), matrices.reduce_A, matrices.reduce_B),
]
fishers = pytest.mark.parametrize(("fisher", "columns"), FISHERS, ids=["exact", "empirical"])
kinds = pytest.mark.parametrize("name", KINDS)


def problem_of(kind: Kind, **choices: object) -> ek.Problem:
    """The kind as a Problem, cut 2 + 1."""

    def part(x, cut):
        if isinstance(x, dict):
            return {key: value[cut] for key, value in x.items()}
        return tuple(value[cut] for value in x) if isinstance(x, tuple) else x[cut]

    cuts = (slice(0, 2), slice(2, 3))
    batches = [(part(kind.inputs, cut), kind.targets[cut]) for cut in cuts]
    return ek.Problem(kind.model, batches, LIKELIHOOD[kind.loss], **choices)


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative in the Frobenius norm; zero must be met by zero."""
    size = float(expected.norm())
    return float((got.double() - expected).norm()) / (size if size > 0 else 1.0)


def blocks(operator: ek.Operator) -> tuple[ek.Operator, ...]:
    return operator.blocks if isinstance(operator, BlockDiagonal) else (operator,)


@kinds
def test_empirical_gradients_sample_by_sample(name: str) -> None:
    kind = KINDS[name]()
    runs = list(ek.per_sample_gradients(problem_of(kind, fisher=ek.Empirical())))
    expected = per_sample_gradients(
        kind.model, kind.inputs, kind.targets, kind.loss, gradient_columns
    )
    assert runs[0].keys() == expected.keys()
    for layer, G in expected.items():
        assert error(torch.cat([run[layer] for run in runs]), torch.stack(G)) < 1e-12


@kinds
@fishers
def test_exact_fisher(name: str, fisher, columns) -> None:
    kind = KINDS[name]()
    got = ek.exact_fisher(problem_of(kind, fisher=fisher))
    G = per_sample_gradients(kind.model, kind.inputs, kind.targets, kind.loss, columns)
    for layer, owners in layers_of(kind.model).items():
        groups = groups_of(owners[0])
        assert len(blocks(got[layer])) == groups
        for k, block in enumerate(blocks(got[layer])):
            expected = matrices.fisher(matrices.gradients_of_group(G[layer], groups, k))
            assert error(block.dense(), expected) < 1e-12


@kinds
@fishers
@pytest.mark.parametrize(("sharing", "input_factor", "gradient_factor"), SHARINGS)
def test_kfac_and_ekfac(name: str, fisher, columns, sharing, input_factor, gradient_factor) -> None:
    kind = KINDS[name]()
    problem = problem_of(kind, fisher=fisher, sharing=sharing)
    kfac, ekfac = ek.kfac(problem), ek.ekfac(problem)
    asked = (kind.model, kind.inputs, kind.targets, kind.loss, columns)
    G, seen = per_sample_gradients(*asked), per_sample_positions(*asked)
    for layer, owners in layers_of(kind.model).items():
        counted = matrices.every_position(seen[layer])
        groups = groups_of(owners[0])
        for k, (K, E) in enumerate(zip(blocks(kfac[layer]), blocks(ekfac[layer]), strict=True)):
            A = input_factor(matrices.inputs_of_group(seen[layer], k), counted)
            B = gradient_factor(matrices.output_gradients_of_group(seen[layer], k), counted)
            assert error(K.dense(), matrices.kronecker(B, A)) < 1e-12
            G_k = matrices.gradients_of_group(G[layer], groups, k)
            Lambda = matrices.eigenvalues(G_k, E.Q_B, E.Q_A)
            assert error(E.dense(), matrices.eigen_kronecker(E.Q_B, E.Q_A, Lambda)) < 1e-12
            assert error(E.trace(), Lambda.sum()) < 1e-12
            F_trace = sum((G_n**2).sum() for G_n in G_k) / len(G_k)
            assert error(E.trace(), F_trace) < 1e-12  # a thin basis loses nothing


@kinds
@fishers
def test_full_fisher(name: str, fisher, columns) -> None:
    kind = KINDS[name]()
    got = ek.full_fisher(problem_of(kind, fisher=fisher))
    G = per_sample_gradients(kind.model, kind.inputs, kind.targets, kind.loss, columns)
    assert list(got.shapes) == list(G)
    assert error(got.matrix, matrices.full_fisher(G)) < 1e-12


@kinds
def test_float32_is_float64_up_to_rounding(name: str) -> None:
    """Against the running-error scale: the norms of all |g| |a|, not the norm of the result."""
    kind = KINDS[name]()
    problem = problem_of(kind, fisher=ek.Empirical())
    model = copy.deepcopy(kind.model).float()

    def single(x):
        return x.float() if x.dtype.is_floating_point else x

    batches = [(torch.utils._pytree.tree_map(single, x), single(y)) for x, y in problem.batches]
    got = ek.ekfac(ek.Problem(model, batches, problem.likelihood, fisher=ek.Empirical()))
    asked = (kind.model, kind.inputs, kind.targets, kind.loss, gradient_columns)
    G, seen = per_sample_gradients(*asked), per_sample_positions(*asked)
    for layer, owners in layers_of(kind.model).items():
        for k, E in enumerate(blocks(got[layer])):
            assert E.eigenvalues.dtype == torch.float32
            a = matrices.inputs_of_group(seen[layer], k)
            g = matrices.output_gradients_of_group(seen[layer], k)
            scale = sum(
                float((g_n.norm(dim=2) @ a_n.norm(dim=1)).square().sum())
                for a_n, g_n in zip(a, g, strict=True)
            ) / len(a)
            G_k = matrices.gradients_of_group(G[layer], groups_of(owners[0]), k)
            Lambda = matrices.eigenvalues(G_k, E.Q_B.double(), E.Q_A.double())
            assert float((E.eigenvalues.double() - Lambda).norm()) <= 1e-5 * scale


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
