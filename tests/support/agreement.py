"""How far the reference is from the plain loop of ``tests/independent``, kind by kind.

Tests bound these numbers; ``python -m tests.support.agreement`` (part of ``make bench``) prints the
worst.
"""

import copy
from collections.abc import Iterator

import torch
from rich.console import Console
from rich.progress import track

import ekfac_ref as ek
from ekfac_ref.matrix.operators import BlockDiagonal
from tests.independent import losses, matrices
from tests.independent.columns import gradient_columns, hessian_columns
from tests.independent.kinds import KINDS, Kind
from tests.independent.layouts import groups_of, layers_of
from tests.independent.plain_loop import per_sample_gradients
from tests.independent.positions import per_sample_positions

FLOAT64, FLOAT32 = 1e-12, 1e-5  # bounds on what tests find

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


def problem_of(kind: Kind, **choices: object) -> ek.Problem:
    """The kind as a Problem, its three samples in batches of two and one."""

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


def gradient_errors(kind: Kind) -> Iterator[float]:
    """Per-sample gradients at the data's own labels."""
    runs = list(ek.per_sample_gradients(problem_of(kind, fisher=ek.Empirical())))
    expected = per_sample_gradients(
        kind.model, kind.inputs, kind.targets, kind.loss, gradient_columns
    )
    assert list(runs[0]) == list(expected)
    for layer, G in expected.items():
        yield error(torch.cat([run[layer] for run in runs]), torch.stack(G))


def fisher_errors(kind: Kind, fisher, columns) -> Iterator[float]:
    """The exact block of every layer and group."""
    got = ek.exact_fisher(problem_of(kind, fisher=fisher))
    G = per_sample_gradients(kind.model, kind.inputs, kind.targets, kind.loss, columns)
    for layer, owners in layers_of(kind.model).items():
        groups = groups_of(owners[0])
        for k, block in zip(range(groups), blocks(got[layer]), strict=True):
            expected = matrices.fisher(matrices.gradients_of_group(G[layer], groups, k))
            yield error(block.dense(), expected)


def kfac_and_ekfac_errors(kind: Kind, fisher, columns, sharing) -> Iterator[float]:
    """KFAC, and EKFAC in its own basis; and its trace is F's, so a thin basis loses nothing."""
    sharing, input_factor, gradient_factor = sharing
    problem = problem_of(kind, fisher=fisher, sharing=sharing)
    kfac, ekfac = ek.kfac(problem), ek.ekfac(problem)
    question = (kind.model, kind.inputs, kind.targets, kind.loss, columns)
    G, seen = per_sample_gradients(*question), per_sample_positions(*question)
    for layer, owners in layers_of(kind.model).items():
        counted = matrices.every_position(seen[layer])
        groups = groups_of(owners[0])
        for k, (K, E) in enumerate(zip(blocks(kfac[layer]), blocks(ekfac[layer]), strict=True)):
            A = input_factor(matrices.inputs_of_group(seen[layer], k), counted)
            B = gradient_factor(matrices.output_gradients_of_group(seen[layer], k), counted)
            yield error(K.dense(), matrices.kronecker(B, A))
            G_k = matrices.gradients_of_group(G[layer], groups, k)
            Lambda = matrices.eigenvalues(G_k, E.Q_B, E.Q_A)
            yield error(E.dense(), matrices.eigen_kronecker(E.Q_B, E.Q_A, Lambda))
            yield error(E.trace(), sum((G_n**2).sum() for G_n in G_k) / len(G_k))


def full_fisher_errors(kind: Kind, fisher, columns) -> Iterator[float]:
    """The Fisher of all layers together, in one matrix."""
    got = ek.full_fisher(problem_of(kind, fisher=fisher))
    G = per_sample_gradients(kind.model, kind.inputs, kind.targets, kind.loss, columns)
    assert list(got.shapes) == list(G)
    yield error(got.matrix, matrices.full_fisher(G))


def float32_errors(kind: Kind) -> Iterator[float]:
    """Lambda in float32 against float64 in the same basis, over the running-error scale: the norms
    of all |g| |a|, not the norm of the result.
    """
    problem = problem_of(kind, fisher=ek.Empirical())
    model = copy.deepcopy(kind.model).float()

    def single(x):
        return x.float() if x.dtype.is_floating_point else x

    batches = [(torch.utils._pytree.tree_map(single, x), single(y)) for x, y in problem.batches]
    got = ek.ekfac(ek.Problem(model, batches, problem.likelihood, fisher=ek.Empirical()))
    question = (kind.model, kind.inputs, kind.targets, kind.loss, gradient_columns)
    G, seen = per_sample_gradients(*question), per_sample_positions(*question)
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
            residual = float((E.eigenvalues.double() - Lambda).norm())
            yield residual / scale if scale > 0 else residual


def float64_errors(kind: Kind) -> Iterator[float]:
    """Gradients, exact blocks, KFAC, EKFAC and the full Fisher, all in float64."""
    yield from gradient_errors(kind)
    for fisher, columns in FISHERS:
        yield from fisher_errors(kind, fisher, columns)
        yield from full_fisher_errors(kind, fisher, columns)
        for sharing in SHARINGS:
            yield from kfac_and_ekfac_errors(kind, fisher, columns, sharing)


def worst(errors: Iterator[float]) -> float:
    """The largest; NaN if one is, and no errors at all are an error."""
    return float(torch.tensor(list(errors)).max())


def main() -> None:
    """Print the worst error over all kinds of layer and wiring, in both dtypes."""
    double, single = {}, {}
    for name, build in track(KINDS.items(), "agreement", transient=True):
        double[name] = worst(float64_errors(build()))
        single[name] = worst(float32_errors(build()))
    console = Console(highlight=False)
    for dtype, errors in (("float64", double), ("float32", single)):
        name = max(errors, key=errors.__getitem__)
        console.print(
            f"Agreement with the plain loop, {dtype}, {len(errors)} kinds of layer and wiring: at "
            f"worst {errors[name]:.1e}, {name}",
            soft_wrap=True,
        )


if __name__ == "__main__":
    main()
