"""Small networks that reach the corners: every layer kind, every way to share a weight."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class TokenMean(nn.Module):
    """Mean over the token axis of ``[N, T, d]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Mixing(nn.Module):
    """Every token of ``[N, T, d]`` gets something of every other."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean(1, keepdim=True)


class ClassesFirst(nn.Module):
    """``[N, T, C]`` to torch's own layout ``[N, C, T]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class MaskedMean(nn.Module):
    """Body on every token, mean over those that the mask counts, head. Inputs: x and mask."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        h = torch.where(mask[..., None], self.body(x), 0.0)
        return self.head(h.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


class CalledTwice(nn.Module):
    """One square layer applied twice in depth, then a head."""

    def __init__(self, shared: nn.Module, activation: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.shared, self.activation, self.head = shared, activation, head

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.shared(x))
        return self.head(self.activation(self.shared(h)))


class TwoInputs(nn.Module):
    """Bilinear on a pair of inputs, then a head."""

    def __init__(self, bilinear: nn.Bilinear, activation: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.bilinear, self.activation, self.head = bilinear, activation, head

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.head(self.activation(self.bilinear(x1, x2)))


@dataclass(frozen=True, eq=False)
class Network:
    """A network and how to make inputs for it.

    Attributes:
        model: without values yet (torch's defaults).
        inputs: (number of samples, a float-filler) to inputs.
        token_shape: axes of the outputs in front of their last one, () for one vector per sample.
        corners: names of the corners that this network reaches by its structure.
        mask: inputs to which positions count, or None.
    """

    model: nn.Module
    inputs: Callable[[int, Callable[..., Tensor]], Any]
    token_shape: tuple[int, ...]
    corners: frozenset[str]
    mask: Callable[[Any], Tensor] | None = None
