"""Hypothesis strategies: the network is drawn, its geometry, its data, and how the data is cut.

Structure is drawn by Hypothesis, so it shrinks; values come from a seed, either from the lattice
{-1, -1/2, 0, 1/2, 1}, which can be read, or from a normal distribution, which is generic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ekfac_ref.columns import Exact, Fisher
from ekfac_ref.conformance import data
from ekfac_ref.conformance.networks import (
    CalledTwice,
    ClassesFirst,
    MaskedMean,
    Network,
    TokenMean,
    TwoInputs,
)
from ekfac_ref.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.problem import Problem
from ekfac_ref.sharing import Expand, Reduce, Sharing

Draw = Callable[[st.SearchStrategy[Any]], Any]
small = st.integers(1, 3)
seeds = st.integers(0, 2**16)

_CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


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


def _activation(draw: Draw) -> tuple[nn.Module, frozenset[str]]:
    kind = draw(st.sampled_from([nn.Tanh, nn.Sigmoid, nn.Identity, nn.ReLU]))
    if kind is nn.ReLU:
        return nn.ReLU(inplace=True), frozenset({"in-place activation"})
    return kind(), frozenset()


def _linears(draw: Draw, widths: list[int]) -> tuple[nn.Sequential, frozenset[str]]:
    """Linear layers with activations between them, biases drawn one by one."""
    modules: list[nn.Module] = []
    corners = {"depth >= 3"} if len(widths) > 3 else set()
    for i, o in pairwise(widths):
        if modules:
            activation, more = _activation(draw)
            modules.append(activation)
            corners |= more
        bias = draw(st.booleans())
        corners.add("bias" if bias else "no bias")
        modules.append(nn.Linear(i, o, bias=bias))
    return nn.Sequential(*modules), frozenset(corners)


def _head(draw: Draw, d: int, K: int) -> tuple[nn.Module, frozenset[str]]:
    """From d features to K outputs, in a third of the draws by way of a weight that is shared."""
    kind = draw(st.sampled_from(["plain", "called twice", "plain", "tied", "plain", "plain"]))
    if kind == "plain":
        return nn.Linear(d, K), frozenset()
    h, bias = draw(st.integers(2, 3)), draw(st.booleans())
    first, second = nn.Linear(h, h, bias=bias), nn.Linear(h, h, bias=bias)
    corners = frozenset({kind, "T > 1"})
    if kind == "called twice":
        return nn.Sequential(
            nn.Linear(d, h), CalledTwice(first, nn.Tanh(), nn.Linear(h, K))
        ), corners
    second.weight, second.bias = first.weight, first.bias
    middle = (first, nn.Tanh(), second, nn.Sigmoid())
    return nn.Sequential(nn.Linear(d, h), *middle, nn.Linear(h, K)), corners


def _vectors(draw: Draw, K: int) -> Network:
    depth = draw(st.sampled_from([3, 4, 3, 1, 2, 3]))
    widths = [*draw(st.tuples(*[st.integers(1, 4)] * depth)), K]
    model, corners = _linears(draw, widths)
    return Network(model, lambda n, fill: fill(n, widths[0]), (), corners | {"linear"})


def _tokens(draw: Draw, K: int, pooled: bool = True) -> Network:
    """Linear layers on every token, the mean over tokens, a head."""
    T, widths = draw(st.integers(2, 4)), draw(st.lists(small, min_size=2, max_size=3))
    body, corners = _linears(draw, widths)
    head, more = _head(draw, widths[-1], K)
    middle = [TokenMean()] if pooled else []
    return Network(
        nn.Sequential(body, nn.Tanh(), *middle, head),
        lambda n, fill: fill(n, T, widths[0]),
        () if pooled else (T,),
        corners | more | {"tokens", "T > 1"},
    )


def _tagger(draw: Draw, K: int) -> Network:
    """The same with a loss term for every token."""
    return _tokens(draw, K, pooled=False)


def _masked_tokens(draw: Draw, K: int) -> Network:
    T, widths = draw(st.integers(2, 4)), draw(st.lists(small, min_size=2, max_size=3))
    body, corners = _linears(draw, widths)
    lengths = draw(st.lists(st.integers(1, T), min_size=6, max_size=6))

    def inputs(n: int, fill: Callable[..., Tensor]) -> dict[str, Tensor]:
        counted = torch.arange(T) < torch.tensor(lengths[:n])[:, None]
        return {"x": fill(n, T, widths[0]), "mask": counted}

    return Network(
        MaskedMean(body, nn.Linear(widths[-1], K)),
        inputs,
        (),
        corners | {"masked tokens", "mask", "T > 1"},
        mask=lambda given: given["mask"],
    )


def _convolutions(draw: Draw, K: int, transposed: bool = False) -> Network:
    """A convolution with every axis its own geometry, then a Linear on all that is left."""
    axes = draw(st.sampled_from([1, 2, 3]))
    most = 2 if axes == 3 else 3
    per_axis = st.tuples(*[st.integers(1, most)] * axes)
    kernel, dilation = draw(per_axis), draw(per_axis)
    stride = draw(st.tuples(*[st.sampled_from([2, 1, 3][:most])] * axes))
    padding = draw(st.tuples(*[st.integers(0, 1)] * axes))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    c_in, c_out = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    bias = draw(st.booleans())
    options: dict[str, Any] = {"groups": groups, "bias": bias, "dilation": dilation}
    corners = {"bias" if bias else "no bias"}
    corners |= {f"conv_transpose{axes}d"} if transposed else {f"conv{axes}d"}
    corners |= {"groups"} if groups > 1 else set()
    corners |= {"depthwise"} if groups == c_in > 1 else set()
    corners |= {"even kernel"} if any(k % 2 == 0 for k in kernel) else set()
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if transposed:
        options |= {"stride": stride, "padding": padding}
        limit = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        extra = tuple(draw(st.integers(0, x)) for x in limit)
        options["output_padding"] = extra
        corners |= {"output padding"} if any(extra) else set()
        size = [draw(st.integers(1, 2)) for _ in kernel]
        # A transposed convolution must leave at least one output on every axis.
        size = [max(n, 2 * p + 2 - r) for n, p, r in zip(size, padding, reach, strict=True)]
    elif draw(st.sampled_from([False, True, False])):
        options["padding"] = "same"
        corners |= {"padding same"}
        size = [draw(st.integers(1, 3)) for _ in kernel]
        stride = (1,) * axes
    else:
        mode = draw(st.sampled_from(["zeros", "circular", "replicate"]))
        options |= {"stride": stride, "padding": padding, "padding_mode": mode}
        corners |= {"padding mode"} if mode != "zeros" else set()
        size = [
            max(1, r - 2 * p) + draw(st.integers(0, 3)) for r, p in zip(reach, padding, strict=True)
        ]
        left = [
            (n + 2 * p - r) % s for n, p, r, s in zip(size, padding, reach, stride, strict=True)
        ]
        corners |= {"remainder"} if any(left) else set()
        if any(len({s, d, p}) == 3 for s, d, p in zip(stride, dilation, padding, strict=True)):
            corners |= {"stride != dilation != padding"}
    layer = (_TRANSPOSED if transposed else _CONV)[axes](c_in, c_out, kernel, **options)
    activation, more = _activation(draw)
    left_over = layer(torch.zeros(1, c_in, *size))
    head, shared = _head(draw, left_over.numel(), K)
    corners |= {"T > 1"} if left_over[0, 0].numel() > 1 else set()
    return Network(
        nn.Sequential(layer, activation, nn.Flatten(), head),
        lambda n, fill: fill(n, c_in, *size),
        (),
        frozenset(corners) | more | shared | {"images"},
    )


def _transposed(draw: Draw, K: int) -> Network:
    return _convolutions(draw, K, transposed=True)


def _pairs(draw: Draw, K: int) -> Network:
    i, j, o = draw(small), draw(small), draw(small)
    activation, corners = _activation(draw)
    return Network(
        TwoInputs(nn.Bilinear(i, j, o, bias=draw(st.booleans())), activation, nn.Linear(o, K)),
        lambda n, fill: (fill(n, i), fill(n, j)),
        (),
        corners | {"bilinear"},
    )


def _words(draw: Draw, K: int) -> Network:
    V, T, d = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(small)
    padding_idx = draw(st.sampled_from([0, 0, 0, None]))
    seed = draw(st.integers(0, 99))

    def inputs(n: int, fill: Callable[..., Tensor]) -> Tensor:
        return torch.randint(V, (n, T), generator=torch.Generator().manual_seed(seed))

    corners = {"embedding"} | ({"padding_idx"} if padding_idx == 0 else set())
    corners |= {"T > 1"} if T > 1 else set()
    head, more = _head(draw, d, K)
    return Network(
        nn.Sequential(nn.Embedding(V, d, padding_idx=padding_idx), TokenMean(), head),
        inputs,
        (),
        frozenset(corners) | more,
    )


Family = Callable[[Draw, int], Network]
# How often, by the number of their corners.
_SHARES: dict[Family, int] = {
    _vectors: 6,
    _tokens: 1,
    _tagger: 11,
    _masked_tokens: 8,
    _convolutions: 22,
    _transposed: 19,
    _pairs: 8,
    _words: 8,
}
# Alternating, since Hypothesis favours some positions of a list.
FAMILIES: tuple[Family, ...] = tuple(
    family
    for turn in range(max(_SHARES.values()))
    for family, share in _SHARES.items()
    if turn < share
)
one_position_families: tuple[Family, ...] = (_vectors, _pairs)


@st.composite
def problems(
    draw: Draw, families: tuple[Family, ...] = FAMILIES, one_sample: bool = False
) -> Drawn:
    """A network of one of the families with data: uneven batches, any likelihood, two dtypes."""
    K = draw(st.sampled_from([2, 1, 3]))  # a softmax over one class has no Fisher
    network = draw(st.sampled_from(families))(draw, K)
    likelihoods = [Categorical(), Gaussian(), Bernoulli(), Poisson()]
    if network.token_shape:  # where positions have labels, mostly classes
        likelihoods = [Categorical(1), Categorical(1), Categorical()] * 3 + likelihoods[1:]
    likelihood = draw(st.sampled_from(likelihoods))
    model, corners = network.model, network.corners | {type(likelihood).__name__}
    if likelihood == Categorical(class_axis=1):
        model, corners = nn.Sequential(model, ClassesFirst()), corners | {"classes first"}
    cuts = st.lists(st.integers(1, 3), min_size=1, max_size=3).filter(lambda s: sum(s) <= 6)
    sizes = [1] if one_sample else draw(cuts)
    corners |= {"N = 1"} if sum(sizes) == 1 else frozenset()
    corners |= {"uneven batches"} if len(set(sizes)) > 1 else frozenset()
    dtype = draw(st.sampled_from([torch.float64, torch.float64, torch.float32]))
    corners |= {str(dtype).removeprefix("torch.")}
    fill = _filler(draw(lattice_first), draw(seeds), dtype)
    model = _with_values(model, fill, dtype)
    families_of_data = data.TAME if isinstance(likelihood, Poisson) else data.FAMILIES
    family = draw(st.sampled_from(families_of_data))
    inputs = tree_map(
        lambda x: family(x) if x.dtype.is_floating_point else x, network.inputs(sum(sizes), fill)
    )
    corners |= {f"{family.__name__} data"}
    targets = _targets(likelihood, (sum(sizes), *network.token_shape), K, fill)
    labelled = network.token_shape and isinstance(likelihood, Categorical)
    if labelled and draw(st.sampled_from([True, True, False])):
        targets[:, 0] = likelihood.ignore_index
        corners |= {"ignored labels"}
    batches = _cut(inputs, targets, sizes)
    return Drawn(model, batches, likelihood, network.mask, frozenset(corners))


def _with_values(model: nn.Module, fill: Callable[..., Tensor], dtype: torch.dtype) -> nn.Module:
    """Parameters of a size that leaves outputs of order one, so that nothing saturates."""
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(1, parameter[0].numel())
            parameter.copy_(fill(*parameter.shape) / fan_in**0.5)
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


def _cut(inputs: Any, targets: Tensor, sizes: list[int]) -> list[tuple[Any, Tensor]]:
    stops = torch.tensor(sizes).cumsum(0).tolist()
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
