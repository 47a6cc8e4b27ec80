"""Hypothesis strategies: the network is drawn, its geometry, its data, and how the data is cut.

Structure is drawn by Hypothesis, so it shrinks; values come from a seed, either from the lattice
{-1, -1/2, 0, 1/2, 1}, which can be read, or from a normal distribution, which is generic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from math import log2
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ekfac_ref.conformance.problems import data
from ekfac_ref.conformance.problems.families import FAMILIES, Family, tagging_families
from ekfac_ref.conformance.problems.layers import Draw, small
from ekfac_ref.conformance.problems.networks import ClassesFirst
from ekfac_ref.question.columns import Exact, Fisher
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand, Reduce, Sharing

seeds = st.integers(0, 2**16)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A problem without its Fisher and sharing, and the corners that it reaches."""

    model: nn.Module
    batches: list[tuple[Any, Tensor]]
    likelihood: Likelihood
    mask: Callable[[Any], Tensor] | None
    corners: frozenset[str]

    def problem(self, fisher: Fisher | None = None, sharing: Sharing | None = None) -> Problem:
        """The problem under a Fisher and a sharing."""
        return Problem(
            self.model,
            self.batches,
            self.likelihood,
            fisher=fisher or Exact(),
            sharing=sharing or Expand(),
            mask=self.mask,
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis would print every number of every tensor

    def __repr__(self) -> str:
        sizes = [len(y) for _, y in self.batches]
        return f"Drawn({self.model}, {self.likelihood}, batches of {sizes}, {sorted(self.corners)})"


def _filler(lattice: bool, seed: int, dtype: torch.dtype) -> Callable[..., Tensor]:
    """Numbers of any shape, one draw after another."""
    generator = torch.Generator().manual_seed(seed)

    def fill(*shape: int) -> Tensor:
        if lattice:
            return (torch.randint(-2, 3, shape, generator=generator) / 2).to(dtype)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return fill


_DTYPES = (torch.float64, torch.float64, torch.float32, torch.bfloat16)
# Sizes of batches, uneven but for one sample and for one batch; the first is what shrinks to.
_CUTS = st.sampled_from(
    [(1,), (2, 1), (1, 2), (3, 1, 2), (1, 3), (2, 3), (3,), (1, 2, 1), (2, 1, 3), (3, 1)]
)
lattice_first = st.sampled_from([True, False])  # shrinks to what can be read
fills = st.builds(_filler, lattice_first, seeds, st.just(torch.float64))
sharings = st.sampled_from([Expand(), Reduce()])
bare_sizes = st.tuples(
    st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.tuples(st.integers(1, 4), small)
)  # N, T, C, (d_out, d_in), as ``bare.generic`` takes them


def orthogonal_matrix(d: int) -> st.SearchStrategy[Tensor]:
    """A signed permutation, which can be read, or a generic orthogonal matrix."""

    def signed(order: list[int], signs: list[int]) -> Tensor:
        return torch.eye(d).double()[order] * torch.tensor(signs).double()

    def generic(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.linalg.qr(torch.randn(d, d, generator=generator).double())[0]

    signs = st.lists(st.sampled_from([-1, 1]), min_size=d, max_size=d)
    return st.builds(signed, st.permutations(range(d)), signs) | st.builds(generic, seeds)


@st.composite
def problems(
    draw: Draw,
    families: tuple[Family, ...] = FAMILIES,
    one_sample: bool = False,
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32),
) -> Drawn:
    """A network of one of the families with data: uneven batches, any likelihood and dtype."""
    family = draw(st.sampled_from(families))
    # One class has no Fisher, and taggers are there for classes.
    K = draw(st.sampled_from([2, 3] if family in tagging_families else [2, 3, 1, 2, 3, 2]))
    network = family(draw, K)
    likelihood = draw(_likelihoods(K, bool(network.token_shape)))
    model, corners = network.model, network.corners | {type(likelihood).__name__}
    if likelihood == Categorical(class_axis=1):
        model, corners = nn.Sequential(model, ClassesFirst()), corners | {"classes first"}
    sizes = (1,) if one_sample else draw(_CUTS)
    corners |= {"N = 1"} if sum(sizes) == 1 else frozenset()
    corners |= {"uneven batches"} if len(set(sizes)) > 1 else frozenset()
    dtype = draw(st.sampled_from([d for d in _DTYPES if d in dtypes]))
    corners |= {str(dtype).removeprefix("torch.")}
    fill = _filler(draw(lattice_first), draw(seeds), dtype)
    model = _with_values(model, fill, dtype)
    of_classes = isinstance(likelihood, Categorical | Bernoulli)
    saturated = of_classes and draw(st.sampled_from([False, False, False, True]))
    if saturated:
        data.saturate(model)
        corners |= {"saturated"}
    like = draw(_data(corners, tame=saturated or isinstance(likelihood, Poisson)))
    inputs = tree_map(
        lambda x: like(x) if x.dtype.is_floating_point else x, network.inputs(sum(sizes), fill)
    )
    if any(x.dtype.is_floating_point for x in tree_leaves(inputs)):
        corners |= {f"{like.__name__} data"}
    targets = _targets(likelihood, (sum(sizes), *network.token_shape), K, fill)
    product = sum(sizes) in (4, 6) and not network.token_shape and "images" not in corners
    if product and draw(st.sampled_from([False, True])):
        of_input, of_label = data.every_with_every(model, sum(sizes))
        inputs, targets = tree_map(lambda x: x[of_input], inputs), targets[of_label]
        corners |= {"product data"}
    labelled = network.token_shape and isinstance(likelihood, Categorical)
    if labelled and sum(sizes) > 1 and draw(st.sampled_from([True, True, False])):
        targets[1::2, 0] = likelihood.ignore_index
        corners |= {"ignored labels"}
    batches = _cut(inputs, targets, sizes)
    return Drawn(model, batches, likelihood, network.mask, frozenset(corners))


def _data(corners: frozenset[str], tame: bool) -> st.SearchStrategy[data.Data]:
    families = data.TAME if tame else data.DATA_FAMILIES
    of_rows = corners & {"linear", "tokens"}  # a mask would leave rows that are not white
    return st.sampled_from(families + data.OF_ROWS if of_rows else families)


def _likelihoods(K: int, of_positions: bool) -> st.SearchStrategy[Likelihood]:
    """Where positions have labels, these are mostly classes."""
    others: list[Likelihood] = [Gaussian(), Poisson(), Bernoulli()]
    if K == 1:  # a softmax over one class has no Fisher
        return st.sampled_from(others)
    if of_positions:
        return st.sampled_from([Categorical(class_axis=1), Categorical()] * 6 + others)
    return st.sampled_from([Categorical(), *others, Categorical(), Poisson()])


def _with_values(model: nn.Module, fill: Callable[..., Tensor], dtype: torch.dtype) -> nn.Module:
    """Parameters of a size that leaves outputs of order one, so that nothing saturates."""
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(1, parameter[0].numel())
            # A power of two, which leaves sums on the lattice exact: where they cancel, a ReLU
            # must not open or close by rounding.
            parameter.copy_(fill(*parameter.shape) / 2 ** round(log2(fan_in) / 2))
    return model.eval()


def _targets(
    likelihood: Likelihood, shape: tuple[int, ...], K: int, fill: Callable[..., Tensor]
) -> Tensor:
    if isinstance(likelihood, Categorical):
        return (fill(*shape).abs() * 2).long() % K
    y = fill(*shape, K)
    if isinstance(likelihood, Bernoulli):
        return (y > 0).to(y)
    return (y.abs() * 2).round() if isinstance(likelihood, Poisson) else y


def _cut(inputs: Any, targets: Tensor, sizes: tuple[int, ...]) -> list[tuple[Any, Tensor]]:
    stops = list(accumulate(sizes))
    starts = [0, *stops[:-1]]
    if isinstance(inputs, dict):
        pieces: list[Any] = [
            {k: v[i:j] for k, v in inputs.items()} for i, j in zip(starts, stops, strict=True)
        ]
    elif isinstance(inputs, tuple):
        pieces = [tuple(v[i:j] for v in inputs) for i, j in zip(starts, stops, strict=True)]
    else:
        pieces = [inputs[i:j] for i, j in zip(starts, stops, strict=True)]
    return [(x, targets[i:j]) for x, i, j in zip(pieces, starts, stops, strict=True)]
