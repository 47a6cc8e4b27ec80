"""Networks around a Linear or an Embedding: on tokens in each layout, in attention, and beside."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.problems import networks
from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed import sizes
from ekfac_ref.conformance.problems.designed.design import Design
from ekfac_ref.conformance.problems.designed.wirings import (
    layer_with_inputs,
    linear_behind,
    of_rows,
    of_words,
    wired,
)
from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION
from ekfac_ref.conformance.problems.networks import Network

_POSITIONS = (3, 2, 4)
_T, _LENGTHS = 3, (2, 1, 3, 2, 1, 2)  # tokens of a sample, and how many of each sample's count


def _at_positions(design: Design, draw: Draw, *shape: int) -> Network:
    """Layers on every position of a sample, all outputs those of the sample."""
    return _position_wise(design, draw, shape, [nn.Flatten()])


def _position_wise(
    design: Design, draw: Draw, shape: tuple[int, ...], behind: list[nn.Module]
) -> Network:
    if design.kind is nn.Embedding:
        word = sizes.small_embedding(design, draw)
        act = design.activation(word.embedding_dim, 0)
        return wired(nn.Sequential(word, act, *behind), of_words(word, draw, *shape))
    layer = sizes.small_linear(design, draw)
    act = design.activation(layer.out_features, 0)
    last = nn.Linear(layer.out_features, 3, bias=design.bias)
    return wired(nn.Sequential(layer, act, last, *behind), of_rows(*shape, layer.in_features))


def on_tokens(design: Design, draw: Draw) -> Network:
    """Layers on the tokens of a sample."""
    return _at_positions(design, draw, 5 if design.many else draw(_POSITIONS))


def on_a_grid(design: Design, draw: Draw) -> Network:
    """Layers on positions that have two axes."""
    return _at_positions(design, draw, *draw(((2, 2), (1, 3), (4, 1))))


def labelled_tokens(design: Design, draw: Draw) -> Network:
    """Layers on tokens, an output for every token."""
    return _position_wise(design, draw, (draw(_POSITIONS),), [])


def classes_second(design: Design, draw: Draw) -> Network:
    """An output for every position, its classes on axis 1: segmentation, or tokens turned round."""
    if issubclass(design.kind, ANY_CONVOLUTION):
        modules, inputs, _ = layer_with_inputs(design, draw)
        return wired(nn.Sequential(*modules[:-1]), inputs)
    return _position_wise(design, draw, (draw(_POSITIONS),), [networks.ClassesFirst()])


def masked(design: Design, draw: Draw) -> Network:
    """Layers on tokens, of which some do not count, and the mean over the others."""
    return _masked(design, draw, _LENGTHS)


def masked_in_the_middle(design: Design, draw: Draw) -> Network:
    """Layers on tokens, all of which count in the first samples and the last ones."""
    return _masked(design, draw, (_T, _T, 2, 1, _T, _T))


def masked_and_called_twice(design: Design, draw: Draw) -> Network:
    """One layer, called on its own output on tokens, of which some do not count."""
    return _masked(design, draw, _LENGTHS, twice=True)


def _masked(design: Design, draw: Draw, lengths: tuple[int, ...], twice: bool = False) -> Network:
    (layer, act, *_), _, d = layer_with_inputs(design, draw, **({"square": True} if twice else {}))
    body: nn.Module = nn.Sequential(layer, act)
    if twice:
        body = networks.CalledTwice(layer, act, nn.Identity())
    head = linear_behind(design, draw, d) if design.kind is nn.Linear else nn.Identity()
    if isinstance(layer, nn.Embedding):
        tokens = of_words(layer, draw, _T)
    else:
        tokens = of_rows(_T, layer.in_features)  # type: ignore[arg-type]

    def with_mask(n: int, fill: Callable[..., Tensor]) -> dict[str, Tensor]:
        counted = torch.arange(_T) < torch.tensor(lengths)[:n, None]
        return {"x": tokens(n, fill), "mask": counted}

    return wired(networks.MaskedMean(body, head), with_mask, mask=lambda given: given.get("mask"))


def folded(design: Design, draw: Draw) -> Network:
    """The tokens of all samples as samples, in the model."""
    return _around(design, draw, networks.Folded)


def tokens_first(design: Design, draw: Draw) -> Network:
    """The tokens on axis 0, in the model."""
    return _around(design, draw, networks.TokensFirst)


def _around(design: Design, draw: Draw, wrapper: Callable[[nn.Module], nn.Module]) -> Network:
    T = draw((3, 4)) if wrapper is networks.TokensFirst else draw(_POSITIONS)
    network = _position_wise(design, draw, (T,), [])
    return wired(nn.Sequential(wrapper(network.model), nn.Flatten()), network.inputs)


def self_attention(design: Design, draw: Draw) -> Network:
    """Attention out of four Linear layers."""
    d = draw((2, 3))
    four = [nn.Linear(d, d, bias=design.bias) for _ in range(4)]
    act = design.activation(d, 0)
    model = nn.Sequential(networks.SelfAttention(*four), act, nn.Flatten())
    return wired(model, of_rows(draw((2, 3)), d))


def around_attention(design: Design, draw: Draw) -> Network:
    """Linear layers before and behind torch's attention, whose own parameters are not asked."""
    first = sizes.small_linear(design, draw)
    d = first.out_features
    attention = networks.Attending(nn.MultiheadAttention(d, 1, batch_first=True))
    last = nn.Linear(d, 2, bias=design.bias)
    act = design.activation(d, 0)
    model = nn.Sequential(first, act, attention, last, nn.Flatten())
    return wired(model, of_rows(draw((2, 3)), first.in_features), layers=("0", "3"))


def used_beside(design: Design, draw: Draw) -> Network:
    """A layer whose weight is used by a function, too."""
    (layer, act), inputs, d = layer_with_inputs(design, draw, square=True)
    beside = networks.UsedBeside(layer)  # type: ignore[arg-type]
    return wired(nn.Sequential(beside, act, linear_behind(design, draw, d)), inputs)


def plus_a_constant(design: Design, draw: Draw) -> Network:
    """A layer whose input is one row for all samples."""
    (main, act), inputs, d = layer_with_inputs(design, draw)
    other = nn.Linear(draw((2, 3)), d, bias=design.bias)
    both = networks.PlusConstant(main, other)  # type: ignore[arg-type]
    return wired(nn.Sequential(both, act, linear_behind(design, draw, d)), inputs)


def two_branches(design: Design, draw: Draw) -> Network:
    """A layer on each of two inputs."""
    first = sizes.small_linear(design, draw)
    i, j = first.in_features, draw((2, 3))
    second = nn.Linear(j, first.out_features, bias=design.bias)
    return wired(networks.TwoBranches(first, second), lambda n, fill: (fill(n, i), fill(n, j)))


def overwritten(design: Design, draw: Draw) -> Network:
    """A frozen layer whose input, another's output, is changed in place when it has been used."""
    (layer, act), inputs, d = layer_with_inputs(design, draw)
    frozen = nn.Linear(d, d, bias=design.bias).requires_grad_(False)
    changing = networks.ChangesItsInput(frozen)
    return wired(nn.Sequential(layer, changing, act, linear_behind(design, draw, d)), inputs)
