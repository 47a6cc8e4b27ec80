"""Families of networks for Hypothesis to draw from: layers, geometry, what goes into them.

Each names the corners that it reaches, so that a test can count them.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from ekfac_ref.conformance.problems.image_families import convolutions, same, transposed, wrapped
from ekfac_ref.conformance.problems.layers import (
    Draw,
    activation,
    head,
    linears,
    small,
    weighted,
)
from ekfac_ref.conformance.problems.networks import (
    MaskedMean,
    Mixing,
    Network,
    TokenMean,
    TwoInputs,
)

_some = st.integers(2, 3)


def vectors(draw: Draw, K: int) -> Network:
    """Linear layers on vectors, one to four of them before the head."""
    depth = draw(weighted(1, 2, 3, 4, 3))
    widths = [*draw(st.tuples(*[st.integers(1, 4)] * depth)), K]
    model, corners = linears(draw, widths)
    return Network(model, lambda n, fill: fill(n, widths[0]), (), corners | {"linear"})


def tokens(draw: Draw, K: int) -> Network:
    """Linear layers on every token, the mean over tokens, a head."""
    T = draw(st.integers(2, 4))
    return _on_tokens(draw, K, T, TokenMean(), ())


def tagger(draw: Draw, K: int) -> Network:
    """Linear layers on every token, a head with a loss term for every token."""
    T = draw(st.integers(2, 4))
    return _on_tokens(draw, K, T, nn.Identity(), (T,))


def mixing_tagger(draw: Draw, K: int) -> Network:
    """A tagger where every token has reached every other before the head, as in attention."""
    T = draw(weighted(2, 3, 3))
    network = _on_tokens(draw, K, T, Mixing(), (T,))
    return replace(network, corners=network.corners | {"mixing tokens"})


def _on_tokens(
    draw: Draw, K: int, T: int, middle: nn.Module, token_shape: tuple[int, ...]
) -> Network:
    widths = draw(st.lists(small, min_size=2, max_size=3))
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
    T, widths = draw(st.integers(2, 4)), draw(st.tuples(_some, _some, _some))
    body, corners = linears(draw, list(widths))
    # The first sample always has a position that does not count, the second another number of them.
    first = draw(st.integers(1, T - 1))
    second = draw(st.sampled_from([n for n in range(1, T + 1) if n != first]))
    lengths = [first, second, *draw(st.tuples(*[st.integers(1, T)] * 4))]

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
    i, j, o = draw(_some), draw(_some), draw(small)  # one input has no order
    module, corners = activation(draw)
    bilinear = nn.Bilinear(i, j, o, bias=draw(st.booleans()))
    return Network(
        TwoInputs(bilinear, module, nn.Linear(o, K)),
        lambda n, fill: (fill(n, i), fill(n, j)),
        (),
        corners | {"bilinear"},
    )


def words(draw: Draw, K: int) -> Network:
    """An embedding, in most draws with padding_idx, its mean over tokens, a head."""
    V, T, d = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(small)
    padding_idx = draw(weighted(0, 0, 0, None))
    seed = draw(st.integers(0, 99))

    def inputs(n: int, fill: Callable[..., Tensor]) -> Tensor:
        return torch.randint(V, (n, T), generator=torch.Generator().manual_seed(seed))

    corners = {"embedding"} | ({"padding_idx"} if padding_idx == 0 else set())
    corners |= {"T > 1"} if T > 1 else set()
    last, more = head(draw, d, K)
    return Network(
        nn.Sequential(nn.Embedding(V, d, padding_idx=padding_idx), TokenMean(), last),
        inputs,
        (),
        frozenset(corners) | more,
    )


Family = Callable[[Draw, int], Network]
FAMILIES: tuple[Family, ...] = (
    *(vectors, tokens, tagger, mixing_tagger, masked_tokens),
    *(convolutions, same, wrapped, transposed, pairs, words),
)
TAGGERS: tuple[Family, ...] = (tagger, mixing_tagger)
