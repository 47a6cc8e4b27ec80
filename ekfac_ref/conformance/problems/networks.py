"""Small networks that reach the corners: every layer kind, every way to share a weight."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_SAMPLES = 6


class TokenMean(nn.Module):
    """The mean over the token axis, [N, T, d] to [N, d]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Mixing(nn.Module):
    """Adds the mean over tokens to every token, [N, T, d] to [N, T, d]."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(1, keepdim=True)


class ClassesFirst(nn.Module):
    """Puts the classes where torch has them, [N, T, C] to [N, C, T]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class MaskedMean(nn.Module):
    """A body on every token, the mean over those that count, a head: x [N, T, d], mask [N, T].

    Without a mask, all of them count.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
        h = torch.where(mask[..., None], self.body(x), 0.0)
        return self.head(h.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


class CalledTwice(nn.Module):
    """One square layer applied twice in depth, then a head, [N, d] to [N, K]."""

    def __init__(self, shared: nn.Module, activation: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.shared, self.activation, self.head = shared, activation, head

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.shared(x))
        return self.head(self.activation(self.shared(h)))


class TwoInputs(nn.Module):
    """A bilinear layer on a pair of inputs, [N, i] and [N, j], then a head to [N, K]."""

    def __init__(self, bilinear: nn.Bilinear, activation: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.bilinear, self.activation, self.head = bilinear, activation, head

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.head(self.activation(self.bilinear(x1, x2)))


class Folded(nn.Module):
    """A body on all tokens of all samples at once, [N, T, d] as [N T, d]: no sample axis in it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class TokensFirst(nn.Module):
    """A body that sees [T, N, d], as recurrent and older attention layers do; [N, T, d] outside."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.transpose(0, 1)).transpose(0, 1)


class SelfAttention(nn.Module):
    """One head of attention out of four layers, [N, T, d] to [N, T, d]."""

    def __init__(self, query: nn.Module, key: nn.Module, value: nn.Module, out: nn.Module) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = query, key, value, out

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        return self.out(scores.softmax(-1) @ self.value(x))


class Attending(nn.Module):
    """torch's attention of tokens to themselves, [N, T, d] to [N, T, d]."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        attended: Tensor = self.attention(x, x, x)[0]
        return attended


class UsedBeside(nn.Module):
    """A square layer that is called, then its weight and bias by ``F.linear``, [N, d] to [N, d]."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.layer(x).tanh(), self.layer.weight, self.layer.bias)


class PlusConstant(nn.Module):
    """One layer on the inputs, another on a constant [1, d] for all samples, added: [N, d]."""

    row: Tensor

    def __init__(self, main: nn.Linear, other: nn.Linear) -> None:
        super().__init__()
        self.main, self.other = main, other
        self.register_buffer("row", torch.arange(1.0, 1 + other.in_features)[None] / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.other(self.row)


class TwoBranches(nn.Module):
    """One layer on each of two inputs, [N, i] and [N, j], what they give multiplied: [N, d]."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.first(x1).tanh() * self.second(x2)


class ChangesItsInput(nn.Module):
    """A layer's outputs plus three times its inputs, which are multiplied in place, after use."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y + x.mul_(3)


class TwoNames(nn.Module):
    """A layer under two names, called once, by the second of them."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.alias = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.alias(x)


class Gain(nn.Module):
    """Multiplies everything by one number, which is trained: a parameter that no layer has."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class ScaledLinear(nn.Linear):
    """A Linear with a forward of its own: its outputs are multiplied by 3/2."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * super().forward(x)


class ScaledConv2d(nn.Conv2d):
    """A Conv2d with a forward of its own: its outputs are multiplied by 3/2."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.5 * super().forward(x)


@dataclass(frozen=True, eq=False)
class Network:
    """A network and how to make inputs for it: what a family draws, and ``problems`` fills.

    Attributes:
        model: with torch's own parameters, in place of which others are drawn.
        inputs: (N, fill) to inputs of N samples, N up to MOST_SAMPLES, where fill(*shape) gives
            numbers of that shape.
        token_shape: (T,) where outputs are [N, T, K], a loss term for every position; () where
            they are [N, K].
        corners: names of the corners that this network reaches by its structure.
        mask: inputs to a bool [N, T], True at the positions that count, or to None where all do;
            None where all do in all batches.
        layers: names of those that are asked about; None for all of them.
    """

    model: nn.Module
    inputs: Callable[[int, Callable[..., Tensor]], Any]
    token_shape: tuple[int, ...]
    corners: frozenset[str]
    mask: Callable[[Any], Tensor | None] | None = None
    layers: tuple[str, ...] | None = None
