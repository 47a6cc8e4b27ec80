"""Problems for the optimizer, cut into uneven batches, and what must come out of a plain loop.

The kinds and the loop are those of ``tests/independent``, which imports nothing of the package: one
gradient per sample and column by plain autograd, inputs by index loops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from tests.independent import matrices
from tests.independent.columns import gradient_columns, hessian_columns
from tests.independent.kinds import KINDS, Inputs, Kind
from tests.independent.layouts import MATRIX_OF, bias_of, groups_of, layers_of
from tests.independent.plain_loop import per_sample_gradients
from tests.independent.positions import per_sample_positions
from tests.support.agreement import LIKELIHOOD, blocks

ONE_OF_EACH = (
    *("linear", "linear_one_leading_axis", "linear_without_bias", "bilinear", "embedding"),
    *("conv1d", "conv2d", "conv2d_grouped", "conv3d", "conv_transpose1d_grouped"),
    *("conv_transpose2d", "conv_transpose3d", "linear_called_twice", "linear_tied_one_bias_absent"),
)
COLUMNS = {ek.Exact(): hessian_columns, ek.Empirical(): gradient_columns}
FACTORS = {
    ek.Expand(): (matrices.expand_A, matrices.expand_B),
    ek.Reduce(): (matrices.reduce_A, matrices.reduce_B),
}
Batches = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class Sums:
    """Of one block and of each of the three samples: nothing divided by a number of samples.

    Attributes:
        A: sums over input rows, and ``rows``, how many these are.
        B: sums over gradient rows.
        G: [C, d_out, d_in] each.
    """

    A: list[Tensor]
    rows: list[int]
    B: list[Tensor]
    G: list[Tensor]


@cache
def kind(name: str) -> Kind:
    """Always the same; no test changes it."""
    return KINDS[name]()


@cache
def sums(name: str, fisher: ek.Exact | ek.Empirical, sharing: ek.Expand | ek.Reduce) -> dict:
    """{(layer, group): Sums}."""
    k = kind(name)
    asked = (k.model, k.inputs, k.targets, k.loss, COLUMNS[fisher])
    G, seen = per_sample_gradients(*asked), per_sample_positions(*asked)
    of_A, of_B = FACTORS[sharing]
    found = {}
    for layer, owners in layers_of(k.model).items():
        for group in range(groups_of(owners[0])):
            a = matrices.inputs_of_group(seen[layer], group)
            g = matrices.output_gradients_of_group(seen[layer], group)
            rows = [len(a_n) if isinstance(sharing, ek.Expand) else 1 for a_n in a]
            every = [[[True] * len(a_n)] for a_n in a]  # position counts
            found[layer, group] = Sums(
                [of_A([a_n], c) * m for a_n, c, m in zip(a, every, rows, strict=True)],
                rows,
                [of_B([g_n], c) for g_n, c in zip(g, every, strict=True)],
                matrices.gradients_of_group(G[layer], groups_of(owners[0]), group),
            )
    return found


def weights(batches: Batches, beta: float) -> list[float]:
    """sum_s beta^(t-s) for every time that a sample is in batch s."""
    t = len(batches) - 1
    return [
        sum(beta ** (t - s) * list(batch).count(n) for s, batch in enumerate(batches))
        for n in range(3)
    ]


def weighted(values: Sequence, by: Sequence[float]):
    """The weighted sum."""
    return sum(w * value for w, value in zip(by, values, strict=True))


def squares(G: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """sum_c (Q_B^T G_c Q_A)^2 of one sample."""
    return sum((Q_B.T @ G_c @ Q_A) ** 2 for G_c in G)


def batch(name: str, samples: Sequence[int]) -> tuple[Inputs, Tensor]:
    """Some of the three samples, in this order."""
    k, chosen = kind(name), list(samples)
    return part(k.inputs, chosen), k.targets[chosen]


def part(inputs: Inputs, chosen) -> Inputs:
    if isinstance(inputs, dict):
        return {key: x[chosen] for key, x in inputs.items()}
    return tuple(x[chosen] for x in inputs) if isinstance(inputs, tuple) else inputs[chosen]


def likelihood(name: str) -> ek.Likelihood:
    return LIKELIHOOD[kind(name).loss]


def by_block(operators: dict[str, ek.Operator]) -> dict[tuple[str, int], ek.Operator]:
    """{(layer, group): operator}."""
    return {(n, k): E for n, operator in operators.items() for k, E in enumerate(blocks(operator))}


def some_gradients(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random ones, one of every parameter."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def matrix_of(model: nn.Module, layer: str, tensors: dict[str, Tensor]) -> Tensor:
    """[W | b] of tensors that are named like the parameters, by index loops."""
    owners = layers_of(model)[layer]
    names = {id(p): name for name, p in model.named_parameters()}
    W = MATRIX_OF[type(owners[0])](owners[0], tensors[names[id(owners[0].weight)]])
    bias = bias_of(owners)
    return W if bias is None else torch.cat([W, tensors[names[id(bias)]][:, None]], 1)


def close(got: Tensor, expected: Tensor, scale: float = 1.0) -> bool:
    """Up to float64's rounding, relative to the larger of expected and scale."""
    return float((got - expected).norm()) <= 1e-11 * max(float(expected.norm()), scale)
