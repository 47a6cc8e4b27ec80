"""Small networks that reach the corners: every layer kind, every way to share a weight."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
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
    """A body on every token, the mean over those that count, a head: x [N, T, d], mask [N, T]."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
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
        mask: inputs to a bool [N, T], True at the positions that count; None where all do.
    """

    model: nn.Module
    inputs: Callable[[int, Callable[..., Tensor]], Any]
    token_shape: tuple[int, ...]
    corners: frozenset[str]
    mask: Callable[[Any], Tensor] | None = None
