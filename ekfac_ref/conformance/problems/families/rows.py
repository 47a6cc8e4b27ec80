"""Families of networks whose first layer sees rows of numbers, pairs of them, or words."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.problems.choices import BOTH, Draw
from ekfac_ref.conformance.problems.families.pieces import activation, head, linears
from ekfac_ref.conformance.problems.networks import (
    MOST_SAMPLES,
    MaskedMean,
    Mixing,
    Network,
    TokenMean,
    TwoInputs,
)

_SMALL, _SOME = (1, 2, 3), (2, 3)


def vectors(draw: Draw, K: int) -> Network:
    """Linear layers on vectors, one to four of them before the head."""
    depth = draw((1, 2, 3, 4, 3))
    widths = [*(draw((1, 2, 3, 4)) for _ in range(depth)), K]
    model, corners = linears(draw, widths)
    return Network(model, lambda n, fill: fill(n, widths[0]), (), corners | {"linear"})


def tokens(draw: Draw, K: int) -> Network:
    """Linear layers on every token, the mean over tokens, a head."""
    T = draw((2, 3, 4))
    return _on_tokens(draw, K, T, TokenMean(), ())


def tagger(draw: Draw, K: int) -> Network:
    """Linear layers on every token, a head with a loss term for every token."""
    T = draw((2, 3, 4))
    return _on_tokens(draw, K, T, nn.Identity(), (T,))


def mixing_tagger(draw: Draw, K: int) -> Network:
    """A tagger where every token has reached every other before the head, as in attention."""
    T = draw((2, 3, 3))
    network = _on_tokens(draw, K, T, Mixing(), (T,))
    return replace(network, corners=network.corners | {"mixing tokens"})


def _on_tokens(
    draw: Draw, K: int, T: int, middle: nn.Module, token_shape: tuple[int, ...]
) -> Network:
    widths = [draw(_SMALL) for _ in range(draw(_SOME))]
    body, corners = linears(draw, widths)
    last, more = head(draw, widths[-1], K)
    return Network(
        nn.Sequential(body, nn.Tanh(), middle, last),
        lambda n, fill: fill(n, T, widths[0]),
        token_shape,
        corners | more | {"tokens", "T > 1"},
    )


def masked_tokens(draw: Draw, K: int) -> Network:
    """Linear layers on tokens, their mean over those that a mask counts, a head."""
    T, widths = draw((2, 3, 4)), [draw(_SOME) for _ in range(3)]
    # Where padding's inputs are zero, it is the 1 of a bias that shows whether it counts.
    body, corners = linears(draw, widths, first_bias=(True,))
    # The first sample always has a position that does not count, the second another number of them.
    first = draw(range(1, T))
    second = draw([n for n in range(1, T + 1) if n != first])
    lengths = [first, second]
    lengths += [draw(range(1, T + 1)) for _ in range(MOST_SAMPLES - 2)]

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


def pairs(draw: Draw, K: int) -> Network:
    """A bilinear layer on two inputs, then a Linear."""
    i, j, o = draw(_SOME), draw(_SOME), draw(_SMALL)  # one input has no order
    module, corners = activation(draw)
    bilinear = nn.Bilinear(i, j, o, bias=draw(BOTH))
    return Network(
        TwoInputs(bilinear, module, nn.Linear(o, K)),
        lambda n, fill: (fill(n, i), fill(n, j)),
        (),
        corners | {"bilinear"},
    )


def words(draw: Draw, K: int) -> Network:
    """An embedding, in most draws with padding_idx, its mean over tokens, a head."""
    V, T, d = draw((2, 3, 4)), draw(_SMALL), draw(_SMALL)
    padding_idx = draw((0, 0, 0, None))
    ids = torch.tensor([[draw(range(V)) for _ in range(T)] for _ in range(MOST_SAMPLES)])

    def inputs(n: int, fill: Callable[..., Tensor]) -> Tensor:
        return ids[:n].clone()

    corners = {"embedding"} | ({"padding_idx"} if padding_idx == 0 else set())
    corners |= {"T > 1"} if T > 1 else set()
    last, more = head(draw, d, K)
    return Network(
        nn.Sequential(nn.Embedding(V, d, padding_idx=padding_idx), TokenMean(), last),
        inputs,
        (),
        frozenset(corners) | more,
    )
