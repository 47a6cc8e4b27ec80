"""Families of networks for Hypothesis to draw from: layers, geometry, what goes into them.

Each names the corners that it reaches, so that a test can count them.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from ekfac_ref.conformance.networks import CalledTwice, MaskedMean, Network, TokenMean, TwoInputs

Draw = Callable[[st.SearchStrategy[Any]], Any]
small = st.integers(1, 3)

_CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


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


def vectors(draw: Draw, K: int) -> Network:
    """Linear layers on vectors."""
    depth = draw(st.sampled_from([3, 4, 3, 1, 2, 3]))
    widths = [*draw(st.tuples(*[st.integers(1, 4)] * depth)), K]
    model, corners = _linears(draw, widths)
    return Network(model, lambda n, fill: fill(n, widths[0]), (), corners | {"linear"})


def tokens(draw: Draw, K: int, pooled: bool = True) -> Network:
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


def tagger(draw: Draw, K: int) -> Network:
    """The same with a loss term for every token."""
    return tokens(draw, K, pooled=False)


def masked_tokens(draw: Draw, K: int) -> Network:
    """Linear layers on tokens, their mean over those that a mask counts, a head."""
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


def convolutions(draw: Draw, K: int, transposed: bool = False) -> Network:
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


def transposed(draw: Draw, K: int) -> Network:
    """The same with a transposed convolution."""
    return convolutions(draw, K, transposed=True)


def pairs(draw: Draw, K: int) -> Network:
    """A bilinear layer on two inputs, then a Linear."""
    i, j, o = draw(small), draw(small), draw(small)
    activation, corners = _activation(draw)
    return Network(
        TwoInputs(nn.Bilinear(i, j, o, bias=draw(st.booleans())), activation, nn.Linear(o, K)),
        lambda n, fill: (fill(n, i), fill(n, j)),
        (),
        corners | {"bilinear"},
    )


def words(draw: Draw, K: int) -> Network:
    """An embedding, in most draws with padding_idx, its mean over tokens, a head."""
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
    vectors: 6,
    tokens: 1,
    tagger: 11,
    masked_tokens: 8,
    convolutions: 22,
    transposed: 19,
    pairs: 8,
    words: 8,
}
# Alternating, since Hypothesis favours some positions of a list.
FAMILIES: tuple[Family, ...] = tuple(
    family
    for turn in range(max(_SHARES.values()))
    for family, share in _SHARES.items()
    if turn < share
)
one_position_families: tuple[Family, ...] = (vectors, pairs)
