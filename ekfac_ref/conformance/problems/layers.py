"""What families of networks have in common: activations, Linear layers, heads that share a weight.

Each gives the modules and names the corners that they reach.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from torch import nn

from ekfac_ref.conformance.problems.networks import CalledTwice

Draw = Callable[[st.SearchStrategy[Any]], Any]
Corners = frozenset[str]
small = st.integers(1, 3)


def weighted(*choices: Any) -> st.SearchStrategy[Any]:
    """One of these; what stands here several times is drawn so many times as often.

    What a draw shrinks to stands first, and equal choices stand apart from one another, since
    Hypothesis favours some positions of a list.
    """
    return st.sampled_from(choices)


def activation(draw: Draw) -> tuple[nn.Module, Corners]:
    """An activation that is smooth, no activation, or a ReLU in place."""
    kind = draw(st.sampled_from([nn.Tanh, nn.Sigmoid, nn.Identity, nn.ReLU]))
    if kind is nn.ReLU:
        return nn.ReLU(inplace=True), frozenset({"in-place activation"})
    return kind(), frozenset()


def linears(draw: Draw, widths: list[int]) -> tuple[nn.Sequential, Corners]:
    """Linear layers with activations between them, biases drawn one by one."""
    modules: list[nn.Module] = []
    corners = {"depth >= 3"} if len(widths) > 3 else set()
    for i, o in pairwise(widths):
        if modules:
            module, more = activation(draw)
            modules.append(module)
            corners |= more
        bias = draw(st.booleans())
        corners.add("bias" if bias else "no bias")
        modules.append(nn.Linear(i, o, bias=bias))
    return nn.Sequential(*modules), frozenset(corners)


_HEADS = weighted(
    *("plain", "one bias of two", "plain", "called twice", "plain"),
    *("one bias of two", "plain", "tied", "plain"),
)


def head(draw: Draw, d: int, K: int) -> tuple[nn.Module, Corners]:
    """From d features to K outputs, in some draws by way of a weight that is used twice."""
    kind = draw(_HEADS)
    if kind == "plain":
        return nn.Linear(d, K), frozenset()
    h = draw(st.integers(2, 3))
    corners = frozenset({kind, "T > 1"})
    if kind == "called twice":
        shared = nn.Linear(h, h, bias=draw(st.booleans()))
        twice = CalledTwice(shared, nn.Tanh(), nn.Linear(h, K))
        return nn.Sequential(nn.Linear(d, h), twice), corners
    biases = [True, False] if kind == "one bias of two" else [draw(st.booleans())] * 2
    if draw(st.booleans()):
        biases.reverse()
    first, second = (nn.Linear(h, h, bias=bias) for bias in biases)
    second.weight = first.weight
    if all(biases):
        second.bias = first.bias
    middle = (first, nn.Tanh(), second, nn.Sigmoid())
    return nn.Sequential(nn.Linear(d, h), *middle, nn.Linear(h, K)), corners | {"tied"}
