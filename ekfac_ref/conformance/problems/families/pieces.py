"""What families of networks have in common: activations, Linear layers, heads that share a weight.

Each gives the modules and names the corners that they reach.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ekfac_ref.conformance.problems.choices import BOTH, Draw
from ekfac_ref.conformance.problems.networks import CalledTwice

Corners = frozenset[str]


def activation(draw: Draw) -> tuple[nn.Module, Corners]:
    """An activation that is smooth, no activation, or a ReLU in place."""
    kind = draw((nn.Tanh, nn.Sigmoid, nn.Identity, nn.ReLU))
    if kind is nn.ReLU:
        return nn.ReLU(inplace=True), frozenset({"in-place activation"})
    return kind(), frozenset()


def linears(
    draw: Draw, widths: list[int], first_bias: Sequence[bool] = BOTH
) -> tuple[nn.Sequential, Corners]:
    """Linear layers with activations between them, biases drawn one by one."""
    modules: list[nn.Module] = []
    corners = {"depth >= 3"} if len(widths) > 3 else set()
    for i, o in pairwise(widths):
        if modules:
            module, more = activation(draw)
            modules.append(module)
            corners |= more
        bias = draw(BOTH if modules else first_bias)
        corners.add("bias" if bias else "no bias")
        modules.append(nn.Linear(i, o, bias=bias))
    return nn.Sequential(*modules), frozenset(corners)


_HEADS = (
    *("plain", "one bias of two", "plain", "called twice", "plain"),
    *("one bias of two", "plain", "tied", "plain"),
)


def head(draw: Draw, d: int, K: int) -> tuple[nn.Module, Corners]:
    """From d features to K outputs, in some draws by way of a weight that is used twice."""
    kind = draw(_HEADS)
    if kind == "plain":
        return nn.Linear(d, K), frozenset()
    h = draw((2, 3))
    corners = frozenset({kind, "T > 1"})
    if kind == "called twice":
        shared = nn.Linear(h, h, bias=draw(BOTH))
        twice = CalledTwice(shared, nn.Tanh(), nn.Linear(h, K))
        return nn.Sequential(nn.Linear(d, h), twice), corners
    biases = [True, False] if kind == "one bias of two" else [draw(BOTH)] * 2
    if draw(BOTH):
        biases.reverse()
    first, second = (nn.Linear(h, h, bias=bias) for bias in biases)
    second.weight = first.weight
    if all(biases):
        second.bias = first.bias
    middle = (first, nn.Tanh(), second, nn.Sigmoid())
    return nn.Sequential(nn.Linear(d, h), *middle, nn.Linear(h, K)), corners | {"tied"}
