"""Networks whose point is not the geometry of a layer but how layers are wired."""

import torch
from torch import Tensor, nn


class CalledTwice(nn.Module):
    """One module used twice in depth: both calls are positions of one layer."""

    def __init__(self, repeated: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.repeated, self.head = repeated, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.repeated(torch.tanh(self.repeated(x)))))


class TwoInputs(nn.Module):
    """A bilinear layer and a head, which takes x1 and x2 by position or by name."""

    def __init__(self, bilinear: nn.Bilinear, head: nn.Module) -> None:
        super().__init__()
        self.bilinear, self.head = bilinear, head

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self.head(torch.tanh(self.bilinear(x1, x2)))


class TokenTagger(nn.Module):
    """Words and their places embedded, mixed by attention, scored at each position: [N, T, K]."""

    def __init__(self, word: nn.Embedding, place: nn.Embedding, head: nn.Module) -> None:
        super().__init__()
        self.word, self.place, self.head = word, place, head

    def forward(self, words: Tensor) -> Tensor:
        places = torch.arange(words.shape[1]).expand(words.shape)
        x = self.word(words) + self.place(places)
        x = x + torch.softmax(x @ x.mT, -1) @ x
        return self.head(torch.tanh(x))


def tied(first: nn.Linear, second: nn.Linear) -> nn.Module:
    """Two Linear modules with one weight, and one bias where both have one; a head of 2 outputs."""
    second.weight = first.weight
    if first.bias is not None and second.bias is not None:
        second.bias = first.bias
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(first.out_features, 2))


def under_two_names(layer: nn.Module, head: nn.Module) -> nn.Module:
    """One module object registered twice."""
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Sigmoid(), head)


def with_frozen_bias(layer: nn.Linear) -> nn.Linear:
    """The bias is a constant, not a coordinate."""
    layer.bias.requires_grad_(False)
    return layer
