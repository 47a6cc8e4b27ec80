"""kfac-jax: KFAC, exact blocks and diagonals of layers that it finds, products with the Fisher.

Documented in ``BlockDiagonalCurvature``: modes ``fisher_exact`` and ``fisher_empirical``, of losses
that are registered with an optional mask of samples, classes on the last axis; the mean over a
batch, which the empirical Fisher is divided by once more, hence its ``weight`` here; the average
over batches by the weights ``ema_new``; the bias is the last input. Layers are found in the graph,
and what is not found has a diagonal: Dense on up to two axes more, Conv2D with channels last. The
inverse is exact, or damped by factors with pi, which the optimizer has by default. The whole Fisher
is ``ImplicitExactCurvature``'s, and of all samples, one by one, ``ExplicitExactCurvature``'s.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import kfac_jax
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from peers.adapters.in_jax import Network, array, inputs_of, tensor, turned, turned_back
from peers.adapters.of_layer import OfGroups, Product, blocks, whole

# Every law and subject asks for the same programs again, in processes of their own: what one of
# them compiled is kept beside the environment.
jax.config.update("jax_compilation_cache_dir", str(Path(sys.prefix) / "compiled"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

_KEY = jax.random.PRNGKey(0)  # of modes that draw; those asked here do not
_ASKED = itertools.count(1)


def _precision(problem: ek.Problem) -> Any:
    """JAX with float64, or as it is by default, without: it mixes them where both are there."""
    return jax.enable_x64(problem.dtype == torch.float64)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Once for all vectors and dampings, of which there are many; the rest runs as it is."""
    return jax.jit(function)


class _Asked:
    """A problem in JAX: parameters of its layers, its batches, and the loss that registers."""

    def __init__(self, problem: ek.Problem) -> None:
        if next(_ASKED) % 500 == 0:
            jax.clear_caches()  # what was compiled for other shapes, gigabytes in a whole run
        self.problem, self.empirical = problem, isinstance(problem.fisher, ek.Empirical)
        self.mode = "fisher_empirical" if self.empirical else "fisher_exact"
        self.layers = ek.find_layers(problem.model, problem.layers)
        named = dict(problem.model.named_parameters())
        self.torch = {name: named[name] for layer in self.layers for name in layer.parameters}
        with _precision(problem):
            self.parameters = {name: array(turned(p)) for name, p in self.torch.items()}

    def batches(self, at_once: bool) -> Iterator[tuple[int, Callable[..., jax.Array], Any]]:
        """Of each: how many samples, the function that registers its loss, its arguments.

        ``at_once``: whether its samples are one batch of the library's, too.
        """
        for x, y in self.problem.batches:
            inputs = inputs_of(self.problem.model, x)
            network = Network(self.problem.model, inputs, self.torch)
            weight = len(y) ** 0.5 if self.empirical and at_once else 1.0
            yield len(y), self._registering(network, weight), (inputs, array(y))

    def _registering(self, network: Network, weight: float) -> Callable[..., jax.Array]:
        likelihood = self.problem.likelihood

        def loss(parameters: Any, batch: Any) -> jax.Array:
            f, y = network(parameters, batch[0]), batch[1]
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

    def product(self, function: Callable[[Any], Any]) -> Product:
        """A function of {name: array} as one of a list of tensors."""

        def on(tensors: list[Tensor]) -> list[Tensor]:
            with _precision(self.problem):
                vector = {k: array(turned(t)) for k, t in zip(self.torch, tensors, strict=True)}
                found = function(vector)
            return [turned_back(tensor(found[name])) for name in self.torch]

        return on


def _estimated(asked: _Asked, estimator: Any, known: tuple[type, ...], **options: Any) -> Any:
    """The curvature estimator of a problem, and its state after all batches."""
    matrix = state = None
    at_once = estimator is not kfac_jax.ExplicitExactCurvature
    with _precision(asked.problem):
        for n, loss, batch in asked.batches(at_once):
            arguments = asked.parameters, batch
            of_batch = estimator(loss, default_estimation_mode=asked.mode, **options)
            fresh = of_batch.init(_KEY, arguments, None, None)
            for block in of_batch.blocks:
                if not isinstance(block, known):
                    raise NotImplementedError(f"what it finds is {block}")
            matrix, state = matrix or of_batch, state or fresh

            update = of_batch.update_curvature_matrix_estimate
            state = update(state, 1.0, float(n), 0.0, n, _KEY, arguments)
    return matrix, state


def _factors(state: Any) -> list[Any]:
    return [factor for block in state.blocks_states for factor in block.factors]


def _checked(problem: ek.Problem) -> None:
    if problem.sharing != ek.Expand():
        raise NotImplementedError("KFAC of convolutions is KFC, which is expand")


def _blocks(known: tuple[type, ...], exact_power: bool = True, **options: Any) -> Any:
    def answer(problem: ek.Problem) -> dict[str, OfGroups]:
        _checked(problem)
        asked = _Asked(problem)
        matrix, state = _estimated(asked, kfac_jax.BlockDiagonalCurvature, known, **options)

        @_compiled
        def product(v: Any) -> Any:
            return matrix.multiply(state, v, 0.0, True, False, None)

        @_compiled
        def solved(v: Any, damping: float) -> Any:
            return matrix.multiply_inverse(state, v, damping, exact_power, False, None)

        def inverse(damping: float) -> Product:
            if not exact_power and any(f.value.size == 1 for f in _factors(state)):
                raise NotImplementedError("a 1 x 1 factor is damped alone, as its code explains")
            return asked.product(lambda v: solved(v, damping))

        return blocks(asked.layers, asked.torch, asked.product(product), inverse, 1.0)

    return answer


def _diagonal(problem: ek.Problem) -> dict[str, Tensor]:
    _checked(problem)
    asked = _Asked(problem)
    matrix, state = _estimated(
        asked, kfac_jax.BlockDiagonalCurvature, _DIAGONAL, layer_tag_to_block_ctor=_DIAGONALS
    )
    ones = [torch.ones_like(p) for p in asked.torch.values()]
    product = asked.product(lambda v: matrix.multiply(state, v, 0.0, True, False, None))
    found = dict(zip(asked.torch, product(ones), strict=True))
    return {layer.name: layer.to_matrix(found) for layer in asked.layers}


def _exact(asked: _Asked) -> Product:
    """The product with the whole Fisher, of all samples one by one."""
    matrix, state = _estimated(asked, kfac_jax.ExplicitExactCurvature, (kfac_jax.NaiveFull,))
    return asked.product(lambda v: matrix.multiply(state, v, 0.0, True, False, None))


def _implicit(asked: _Asked) -> Product:
    """The product with the exact Fisher, of no matrix."""

    def product(v: Any) -> Any:
        total, N = jax.tree.map(jnp.zeros_like, v), 0
        for n, loss, batch in asked.batches(at_once=True):
            matrix = kfac_jax.ImplicitExactCurvature(loss)
            of_batch = matrix.multiply_fisher((asked.parameters, batch), v)
            total, N = jax.tree.map(lambda a, b, n=n: a + n * b, total, of_batch), N + n
        return jax.tree.map(lambda a: a / N, total)

    return asked.product(product)


def _product(problem: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    asked = _Asked(problem)
    product = _exact(asked) if asked.empirical else _implicit(asked)
    return whole(asked.torch, product, asked.layers, V)


_KRONECKER = (kfac_jax.KroneckerFactored,)
_FULLS = {"dense": kfac_jax.DenseFull, "conv2d": kfac_jax.Conv2DFull}
_FULL = tuple(_FULLS.values())
_DIAGONALS = {"dense": kfac_jax.DenseDiagonal, "conv2d": kfac_jax.Conv2DDiagonal}
_DIAGONAL = tuple(_DIAGONALS.values())


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
    kfac=_blocks(_KRONECKER, exact_power=False),
    definition=ct.Definition(damping=ct.Factored()),
    abilities=_abilities(nn.Linear, nn.Conv2d, masks=True),
)

exact = ct.Subject(
    "kfac-jax, exact",
    exact_fisher=_blocks(_FULL, layer_tag_to_block_ctor=_FULLS),
    diagonal=_diagonal,
    abilities=_abilities(nn.Linear, nn.Conv2d, masks=False),
)

products = ct.Subject(
    "kfac-jax, products",
    fisher_product=_product,
    abilities=_abilities(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, masks=False),
)
