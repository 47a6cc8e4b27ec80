"""Networks around a layer: the plain one, and one for everything special about a wiring.

Left out are those that the oracle, the ``model/`` half, has no answer for: activation checkpointing
(torch.func cannot batch it), attention's own projections (their op is no layer's), a weight in two
orientations, and batches of which only some have a mask (a mask is one function for all).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.problems import networks
from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed import sizes
from ekfac_ref.conformance.problems.designed.design import Design
from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION
from ekfac_ref.conformance.problems.features import TRANSPOSED_KINDS
from ekfac_ref.conformance.problems.networks import MOST_SAMPLES, Network

_Inputs = Callable[[int, Callable[..., Tensor]], Any]
_POSITIONS = (3, 2, 4)


def _network(model: nn.Module, inputs: _Inputs, **more: Any) -> Network:
    return Network(model, inputs, (), frozenset(), **more)


def _rows(*shape: int) -> _Inputs:
    return lambda n, fill: fill(n, *shape)


def _ids(layer: nn.Embedding, draw: Draw, *shape: int) -> _Inputs:
    """Words of any kind, but the first sample has word 0 and the second word 1."""
    flat = [draw(range(layer.num_embeddings)) for _ in range(MOST_SAMPLES * max(1, *shape, 1))]
    ids = torch.tensor(flat).reshape(MOST_SAMPLES, *shape)
    ids[0], ids[1] = 0, 1
    if shape:
        ids[0, -1], ids[1, -1] = 1, 0
    return lambda n, fill: ids[:n].clone()


def _second(design: Design, draw: Draw, d: int) -> nn.Linear:
    """The Linear behind: in the plain case of Linear, or where another is called for."""
    return nn.Linear(d, draw((2, 3)), bias=design.bias)


def _layer(design: Design, draw: Draw, **how: bool) -> tuple[list[nn.Module], _Inputs, int]:
    """The layer with its activation, inputs to it, and how many numbers come out for a sample."""
    if issubclass(design.kind, ANY_CONVOLUTION):
        layer, shape = sizes.small_convolution(design, draw, **how)
        act = design.activation(layer.out_channels, len(shape) - 1)  # type: ignore[arg-type]
        return [layer, act, nn.Flatten()], _rows(*shape), sizes.flat_outputs(layer, shape)
    if design.kind is nn.Embedding:
        word = sizes.small_embedding(design, draw)
        d = word.embedding_dim
        return [word, design.activation(d, 0)], _ids(word, draw), d
    linear = sizes.small_linear(design, draw, **how)
    o = linear.out_features
    return [linear, design.activation(o, 0)], _rows(linear.in_features), o


def alone(design: Design, draw: Draw) -> Network:
    """The plain case, as ``Design`` describes it."""
    if design.kind is nn.Bilinear:
        return _pairs(design, draw, lambda o: nn.Identity())
    modules, inputs, d = _layer(design, draw)
    if design.kind is nn.Linear:
        modules.append(_second(design, draw, d))
    if issubclass(design.kind, nn.Embedding):
        modules.append(nn.Flatten())
    return _network(nn.Sequential(*modules), inputs)


def _pairs(design: Design, draw: Draw, head: Callable[[int], nn.Module], **more: Any) -> Network:
    layer = sizes.small_bilinear(design, draw)
    i, j, o = layer.in1_features, layer.in2_features, layer.out_features
    model = networks.TwoInputs(layer, design.activation(o, 0), head(o))
    return _network(model, lambda n, fill: (fill(n, i), fill(n, j)), **more)


def every_layer_named(design: Design, draw: Draw) -> Network:
    """The plain network, its layers named: there are parameters beside theirs."""
    network = alone(design, draw)
    names = [n for n, m in network.model.named_modules() if isinstance(m, design.kind)]
    return _network(network.model, network.inputs, layers=tuple(names))


def with_a_layer_unasked(design: Design, draw: Draw) -> Network:
    """A Linear behind that is not asked about."""
    if design.kind is nn.Bilinear:
        return _pairs(design, draw, lambda o: _second(design, draw, o), layers=("bilinear",))
    modules, inputs, d = _layer(design, draw)
    return _network(nn.Sequential(*modules, _second(design, draw, d)), inputs, layers=("0",))


def with_a_frozen_layer(design: Design, draw: Draw) -> Network:
    """A Linear behind that is not trained."""
    if design.kind is nn.Bilinear:
        return _pairs(design, draw, lambda o: _second(design, draw, o).requires_grad_(False))
    modules, inputs, d = _layer(design, draw)
    frozen = _second(design, draw, d).requires_grad_(False)
    return _network(nn.Sequential(*modules, frozen), inputs)


def called_twice(design: Design, draw: Draw) -> Network:
    """One layer, called on its own output."""
    how = {"twice": True} if issubclass(design.kind, ANY_CONVOLUTION) else {}
    modules, inputs, d = _layer(design, draw, square=True, **how)
    head = nn.Flatten() if how else _second(design, draw, d)
    return _network(networks.CalledTwice(modules[0], modules[1], head), inputs)


def under_two_names_called_twice(design: Design, draw: Draw) -> Network:
    """One layer at two places of a Sequential."""
    how = {"twice": True} if issubclass(design.kind, ANY_CONVOLUTION) else {}
    (layer, act, *_), inputs, _ = _layer(design, draw, square=True, **how)
    return _network(nn.Sequential(layer, act, layer, nn.Flatten()), inputs)


def tied(design: Design, draw: Draw) -> Network:
    """Two modules with one weight and one bias."""
    how = {"twice": True} if issubclass(design.kind, ANY_CONVOLUTION) else {}
    (layer, act, *_), inputs, _ = _layer(design, draw, square=True, **how)
    again = _like(design, layer)
    again.weight, again.bias = layer.weight, layer.bias
    return _network(nn.Sequential(layer, act, again, nn.Flatten()), inputs)


def _like(design: Design, layer: Any) -> Any:
    if isinstance(layer, nn.Linear):
        return type(layer)(layer.in_features, layer.out_features, bias=design.bias)
    names = ["stride", "padding", "dilation", "groups", "padding_mode"]
    names += ["output_padding"] if design.kind in TRANSPOSED_KINDS else []
    options = {name: getattr(layer, name) for name in names}
    channels = (layer.in_channels, layer.out_channels)
    return type(layer)(*channels, layer.kernel_size, bias=design.bias, **options)


def under_two_names(design: Design, draw: Draw) -> Network:
    """A layer that its module holds under two names."""
    (layer, *rest), inputs, d = _layer(design, draw)
    rest += [_second(design, draw, d)] if design.kind is nn.Linear else []
    return _network(nn.Sequential(networks.TwoNames(layer), *rest), inputs)


def behind_another(design: Design, draw: Draw) -> Network:
    """Two convolutions of one kind, one behind the other; the second has a kernel of ones."""
    (layer, act, *_), inputs, _ = _layer(design, draw)
    c: Any = layer.out_channels
    second = design.kind(c, 4, 1, bias=design.bias)
    return _network(nn.Sequential(layer, act, second, nn.Flatten()), inputs)


def _at_positions(design: Design, draw: Draw, *shape: int) -> Network:
    """Layers on every position of a sample, all outputs those of the sample."""
    return _position_wise(design, draw, shape, [nn.Flatten()])


def _position_wise(
    design: Design, draw: Draw, shape: tuple[int, ...], behind: list[nn.Module]
) -> Network:
    if design.kind is nn.Embedding:
        word = sizes.small_embedding(design, draw)
        act = design.activation(word.embedding_dim, 0)
        return _network(nn.Sequential(word, act, *behind), _ids(word, draw, *shape))
    layer = sizes.small_linear(design, draw)
    act = design.activation(layer.out_features, 0)
    last = nn.Linear(layer.out_features, 3, bias=design.bias)
    return _network(nn.Sequential(layer, act, last, *behind), _rows(*shape, layer.in_features))


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
        modules, inputs, _ = _layer(design, draw)
        return _network(nn.Sequential(*modules[:-1]), inputs)
    return _position_wise(design, draw, (draw(_POSITIONS),), [networks.ClassesFirst()])


def masked(design: Design, draw: Draw) -> Network:
    """Layers on tokens, of which some do not count, and the mean over the others."""
    return _masked(design, draw, False)


def masked_and_called_twice(design: Design, draw: Draw) -> Network:
    """One layer, called on its own output on tokens, of which some do not count."""
    return _masked(design, draw, True)


def _masked(design: Design, draw: Draw, twice: bool) -> Network:
    # Samples have different numbers of tokens that count.
    T, lengths = 3, torch.tensor([2, 1, 3, 2, 1, 2])
    (layer, act, *_), _, d = _layer(design, draw, **({"square": True} if twice else {}))
    body: nn.Module = nn.Sequential(layer, act)
    if twice:
        body = networks.CalledTwice(layer, act, nn.Identity())
    head = _second(design, draw, d) if design.kind is nn.Linear else nn.Identity()
    if isinstance(layer, nn.Embedding):
        tokens = _ids(layer, draw, T)
    else:
        tokens = _rows(T, layer.in_features)  # type: ignore[arg-type]

    def with_mask(n: int, fill: Callable[..., Tensor]) -> dict[str, Tensor]:
        return {"x": tokens(n, fill), "mask": torch.arange(T) < lengths[:n, None]}

    return _network(networks.MaskedMean(body, head), with_mask, mask=lambda given: given["mask"])


def folded(design: Design, draw: Draw) -> Network:
    """The tokens of all samples as samples, in the model."""
    return _around(design, draw, networks.Folded)


def tokens_first(design: Design, draw: Draw) -> Network:
    """The tokens on axis 0, in the model."""
    return _around(design, draw, networks.TokensFirst)


def _around(design: Design, draw: Draw, wrapper: Callable[[nn.Module], nn.Module]) -> Network:
    T = draw((3, 4)) if wrapper is networks.TokensFirst else draw(_POSITIONS)
    network = _position_wise(design, draw, (T,), [])
    return _network(nn.Sequential(wrapper(network.model), nn.Flatten()), network.inputs)


def self_attention(design: Design, draw: Draw) -> Network:
    """Attention out of four Linear layers."""
    d = draw((2, 3))
    four = [nn.Linear(d, d, bias=design.bias) for _ in range(4)]
    act = design.activation(d, 0)
    model = nn.Sequential(networks.SelfAttention(*four), act, nn.Flatten())
    return _network(model, _rows(draw((2, 3)), d))


def around_attention(design: Design, draw: Draw) -> Network:
    """Linear layers before and behind torch's attention, whose own parameters are not asked."""
    first = sizes.small_linear(design, draw)
    d = first.out_features
    attention = networks.Attending(nn.MultiheadAttention(d, 1, batch_first=True))
    last = nn.Linear(d, 2, bias=design.bias)
    act = design.activation(d, 0)
    model = nn.Sequential(first, act, attention, last, nn.Flatten())
    return _network(model, _rows(draw((2, 3)), first.in_features), layers=("0", "3"))


def used_beside(design: Design, draw: Draw) -> Network:
    """A layer whose weight is used by a function, too."""
    (layer, act), inputs, d = _layer(design, draw, square=True)
    beside = networks.UsedBeside(layer)  # type: ignore[arg-type]
    return _network(nn.Sequential(beside, act, _second(design, draw, d)), inputs)


def plus_a_constant(design: Design, draw: Draw) -> Network:
    """A layer whose input is one row for all samples."""
    (main, act), inputs, d = _layer(design, draw)
    other = nn.Linear(draw((2, 3)), d, bias=design.bias)
    both = networks.PlusConstant(main, other)  # type: ignore[arg-type]
    return _network(nn.Sequential(both, act, _second(design, draw, d)), inputs)


def two_branches(design: Design, draw: Draw) -> Network:
    """A layer on each of two inputs."""
    first = sizes.small_linear(design, draw)
    i, j = first.in_features, draw((2, 3))
    second = nn.Linear(j, first.out_features, bias=design.bias)
    return _network(networks.TwoBranches(first, second), lambda n, fill: (fill(n, i), fill(n, j)))


def overwritten(design: Design, draw: Draw) -> Network:
    """A frozen layer whose input, another's output, is changed in place when it has been used."""
    (layer, act), inputs, d = _layer(design, draw)
    frozen = nn.Linear(d, d, bias=design.bias).requires_grad_(False)
    changing = networks.ChangesItsInput(frozen)
    return _network(nn.Sequential(layer, changing, act, _second(design, draw, d)), inputs)
