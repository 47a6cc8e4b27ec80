"""kfac-jax: KFAC, exact blocks and diagonals of layers that it finds, products with the Fisher.

Documented in ``BlockDiagonalCurvature``: modes ``fisher_exact`` and ``fisher_empirical``, of losses
that are registered with an optional mask of samples, classes on the last axis; the mean over a
batch, which the empirical Fisher is divided by once more, hence its ``weight`` here; the average
over batches by the weights ``ema_new``; the bias is the last input. Layers are found in the graph,
and what is not found has a diagonal: Dense on up to two axes more, Conv2D with channels last. The
inverse is exact, or damped by factors with pi, which the optimizer has by default. The whole Fisher
is ``ImplicitExactCurvature``'s, and of all samples, one by one, ``ExplicitExactCurvature``'s.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import kfac_jax
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from peers.adapters.of_layer import OfGroups, Product, blocks, whole
from peers.adapters.problem_in_jax import BatchInJax, LastPrograms, ProblemInJax

# Subjects are asked in processes of their own: what is the same in them, mostly single operations
# (a set's order decides that of a whole program), is kept beside the environment.
jax.config.update("jax_compilation_cache_dir", str(Path(sys.prefix) / "compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# Each program runs a few times on a small network: what compiling it well takes, it never earns.
_compiled = partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_cpu_parallel_codegen_split_count": 1,
        "xla_cpu_use_fusion_emitters": False,
    },
)

_KEY = jax.random.PRNGKey(0)  # of modes that draw; those asked here do not


@dataclass(frozen=True, eq=False)
class _Programs:
    """A curvature estimator for all batches of one structure, compiled.

    Attributes:
        fresh: the state before any batch.
        update: (state, arguments of a batch) to the state with it.
        product: (state, v) to the matrix times v.
        solved: (state, v, damping) to the inverse times v.
    """

    fresh: Any
    update: Callable[[Any, Any], Any]
    product: Callable[[Any, Any], Any]
    solved: Callable[[Any, Any, Any], Any]


def _programs(
    estimator: Callable[..., Any], known: tuple[type, ...], exact_power: bool = True, **options: Any
) -> LastPrograms[_Programs]:
    """Those of an estimator's class; another block than the known ones is refused."""

    def make(asked: ProblemInJax, batch: BatchInJax) -> _Programs:
        # Of one sample at a time the mean is no further division.
        at_once = estimator is not kfac_jax.ExplicitExactCurvature
        matrix = estimator(
            _loss(asked, batch, batch.N**0.5 if asked.empirical and at_once else 1.0),
            default_estimation_mode="fisher_empirical" if asked.empirical else "fisher_exact",
            batch_index=2,
            **options,
        )
        fresh = matrix.init(_KEY, batch.arguments, None, None)
        for block in matrix.blocks:
            if not isinstance(block, known):
                raise NotImplementedError(f"what it finds is {block}")
        N, update = batch.N, matrix.update_curvature_matrix_estimate
        inverse = matrix.multiply_inverse
        return _Programs(
            fresh,
            _compiled(lambda state, on: update(state, 1.0, float(N), 0.0, N, _KEY, on)),
            _compiled(lambda state, v: matrix.multiply(state, v, 0.0, True, False, None)),
            _compiled(
                lambda state, v, damping: inverse(state, v, damping, exact_power, False, None)
            ),
        )

    return LastPrograms(make)


def _loss(asked: ProblemInJax, batch: BatchInJax, weight: float) -> Callable[..., jax.Array]:
    """What registers the loss, for the arguments of any batch of the same structure."""
    likelihood, network = asked.problem.likelihood, batch.network

    def loss(parameters: Any, constants: Any, batch: Any) -> jax.Array:
        f, y = network(parameters, constants, batch[0]), batch[1]
        if isinstance(likelihood, ek.Categorical):
            f, counts = jnp.moveaxis(f, likelihood.class_axis, -1), y != likelihood.ignore_index
            y = jnp.where(counts, y, 0)
            kfac_jax.register_softmax_cross_entropy_loss(f, y, counts.astype(f.dtype), weight)
        elif isinstance(likelihood, ek.Bernoulli):
            kfac_jax.register_sigmoid_cross_entropy_loss(f, y, weight)
        else:
            kfac_jax.register_normal_predictive_distribution(f, y, 1.0, weight)
        return f.sum()  # what is registered counts

    return loss


def _gathered(asked: ProblemInJax, programs: LastPrograms[_Programs]) -> tuple[_Programs, Any]:
    """The programs of the first batch, and the state after all of them."""
    first = state = None
    with asked.precision():
        for batch in asked.batches():
            of_batch = programs.of(asked, batch)
            first, state = first or of_batch, state or of_batch.fresh
            state = of_batch.update(state, batch.arguments)
    assert first is not None
    return first, state


def _product_of_fisher(asked: ProblemInJax, batch: BatchInJax) -> Callable[[Any, Any], Any]:
    matrix = kfac_jax.ImplicitExactCurvature(_loss(asked, batch, 1.0))
    return _compiled(matrix.multiply_fisher)


def _factors(state: Any) -> list[Any]:
    return [factor for block in state.blocks_states for factor in block.factors]


def _checked(problem: ek.Problem) -> None:
    if problem.sharing != ek.Expand():
        raise NotImplementedError("KFAC of convolutions is KFC, which is expand")


def _blocks(of_blocks: LastPrograms[_Programs], factored: bool = False) -> Any:
    def answer(problem: ek.Problem) -> dict[str, OfGroups]:
        _checked(problem)
        asked = ProblemInJax(problem)
        programs, state = _gathered(asked, of_blocks)

        def inverse(damping: float) -> Product:
            if factored and any(f.value.size == 1 for f in _factors(state)):
                raise NotImplementedError("a 1 x 1 factor is damped alone, as its code explains")
            return asked.product(lambda v: programs.solved(state, v, damping))

        product = asked.product(lambda v: programs.product(state, v))
        return blocks(asked.layers, asked.torch, product, inverse, 1.0)

    return answer


def _diagonal(problem: ek.Problem) -> dict[str, Tensor]:
    _checked(problem)
    asked = ProblemInJax(problem)
    programs, state = _gathered(asked, _DIAGONALS)
    ones = [torch.ones_like(p) for p in asked.torch.values()]
    product = asked.product(lambda v: programs.product(state, v))
    found = dict(zip(asked.torch, product(ones), strict=True))
    return {layer.name: layer.to_matrix(found) for layer in asked.layers}


def _explicit(asked: ProblemInJax) -> Product:
    """The product with the whole Fisher, of all samples one by one."""
    programs, state = _gathered(asked, _WHOLE)
    return asked.product(lambda v: programs.product(state, v))


def _implicit(asked: ProblemInJax) -> Product:
    """The product with the exact Fisher, of no matrix."""

    def product(v: Any) -> Any:
        total, N = jax.tree.map(jnp.zeros_like, v), 0
        for batch in asked.batches():
            of_batch = _IMPLICIT.of(asked, batch)(batch.arguments, v)
            total = jax.tree.map(lambda a, b, n=batch.N: a + n * b, total, of_batch)
            N += batch.N
        return jax.tree.map(lambda a: a / N, total)

    return asked.product(product)


def _product(problem: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    asked = ProblemInJax(problem)
    product = _explicit(asked) if asked.empirical else _implicit(asked)
    return whole(asked.torch, product, asked.layers, V)


def _of_tags(constructors: dict[str, type]) -> LastPrograms[_Programs]:
    blocks = tuple(constructors.values())
    return _programs(kfac_jax.BlockDiagonalCurvature, blocks, layer_tag_to_block_ctor=constructors)


_KFAC = kfac_jax.BlockDiagonalCurvature, (kfac_jax.KroneckerFactored,)
_KRONECKER, _FACTORED = _programs(*_KFAC), _programs(*_KFAC, exact_power=False)
_FULL = _of_tags({"dense": kfac_jax.DenseFull, "conv2d": kfac_jax.Conv2DFull})
_DIAGONALS = _of_tags({"dense": kfac_jax.DenseDiagonal, "conv2d": kfac_jax.Conv2DDiagonal})
_WHOLE = _programs(kfac_jax.ExplicitExactCurvature, (kfac_jax.NaiveFull,))
_IMPLICIT = LastPrograms(_product_of_fisher)


def _abilities(*layers: type[nn.Module], masks: bool) -> ct.Abilities:
    return ct.Abilities(
        layers=layers,
        likelihoods=(ek.Gaussian, ek.Categorical, ek.Bernoulli),
        sharings=(ek.Expand,),
        shared_weights=False,
        masks=masks,
        declines=("MultiheadAttention",),
    )


factors = ct.Subject(
    "kfac-jax",
    kfac=_blocks(_KRONECKER),
    abilities=_abilities(nn.Linear, nn.Conv2d, masks=True),
)

factored = ct.Subject(
    "kfac-jax, factored damping",
    kfac=_blocks(_FACTORED, factored=True),
    definition=ct.Definition(damping=ct.Factored()),
    abilities=_abilities(nn.Linear, nn.Conv2d, masks=True),
)

exact = ct.Subject(
    "kfac-jax, exact",
    exact_fisher=_blocks(_FULL),
    diagonal=_diagonal,
    abilities=_abilities(nn.Linear, nn.Conv2d, masks=False),
)

products = ct.Subject(
    "kfac-jax, products",
    fisher_product=_product,
    abilities=_abilities(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, masks=False),
)
