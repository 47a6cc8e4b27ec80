"""Networks around a layer: the plain one, and one for everything special about a wiring.

Left out are a weight in two orientations, which has no factors; what no hook on a module sees,
attention's own projections and matrices of no module (the checks of a problem of one's own ask
about these); and activation checkpointing, under which most subjects' per-sample gradients cannot
be had (torch.func refuses it).
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

MakeInputs = Callable[[int, Callable[..., Tensor]], Any]


def wired(model: nn.Module, inputs: MakeInputs, **more: Any) -> Network:
    """A network whose outputs say how many there are; ``more`` is its mask or layers."""
    return Network(model, inputs, (), frozenset(), **more)


def of_rows(*shape: int) -> MakeInputs:
    """Numbers of this shape for every sample."""
    return lambda n, fill: fill(n, *shape)


def of_words(layer: nn.Embedding, draw: Draw, *shape: int) -> MakeInputs:
    """Words of any kind, but the first sample has word 0 and the second word 1."""
    flat = [draw(range(layer.num_embeddings)) for _ in range(MOST_SAMPLES * max(1, *shape, 1))]
    ids = torch.tensor(flat).reshape(MOST_SAMPLES, *shape)
    ids[0], ids[1] = 0, 1
    if shape:
        ids[0, -1], ids[1, -1] = 1, 0
    return lambda n, fill: ids[:n].clone()


def linear_behind(design: Design, draw: Draw, d: int) -> nn.Linear:
    """The Linear behind: in the plain case of Linear, or where another is called for."""
    return nn.Linear(d, draw((2, 3)), bias=design.bias)


def layer_with_inputs(
    design: Design, draw: Draw, **how: bool
) -> tuple[list[nn.Module], MakeInputs, int]:
    """The layer with its activation, inputs to it, and how many numbers come out for a sample."""
    if issubclass(design.kind, ANY_CONVOLUTION):
        layer, shape = sizes.small_convolution(design, draw, **how)
        act = design.activation(layer.out_channels, len(shape) - 1)  # type: ignore[arg-type]
        return [layer, act, nn.Flatten()], of_rows(*shape), sizes.flat_outputs(layer, shape)
    if design.kind is nn.Embedding:
        word = sizes.small_embedding(design, draw)
        d = word.embedding_dim
        return [word, design.activation(d, 0)], of_words(word, draw), d
    linear = sizes.small_linear(design, draw, **how)
    o = linear.out_features
    return [linear, design.activation(o, 0)], of_rows(linear.in_features), o


def alone(design: Design, draw: Draw) -> Network:
    """The plain case, as ``Design`` describes it."""
    if design.kind is nn.Bilinear:
        return _pairs(design, draw, lambda o: nn.Identity())
    modules, inputs, d = layer_with_inputs(design, draw)
    if design.kind is nn.Linear:
        modules.append(linear_behind(design, draw, d))
    if issubclass(design.kind, nn.Embedding):
        modules.append(nn.Flatten())
    return wired(nn.Sequential(*modules), inputs)


def _pairs(design: Design, draw: Draw, head: Callable[[int], nn.Module], **more: Any) -> Network:
    layer = sizes.small_bilinear(design, draw)
    i, j, o = layer.in1_features, layer.in2_features, layer.out_features
    model = networks.TwoInputs(layer, design.activation(o, 0), head(o))
    return wired(model, lambda n, fill: (fill(n, i), fill(n, j)), **more)


def every_layer_named(design: Design, draw: Draw) -> Network:
    """The plain network, its layers named: there are parameters beside theirs."""
    network = alone(design, draw)
    names = [n for n, m in network.model.named_modules() if isinstance(m, design.kind)]
    return wired(network.model, network.inputs, layers=tuple(names))


def with_a_layer_unasked(design: Design, draw: Draw) -> Network:
    """A Linear behind that is not asked about."""
    if design.kind is nn.Bilinear:
        return _pairs(design, draw, lambda o: linear_behind(design, draw, o), layers=("bilinear",))
    modules, inputs, d = layer_with_inputs(design, draw)
    return wired(nn.Sequential(*modules, linear_behind(design, draw, d)), inputs, layers=("0",))


def with_a_frozen_layer(design: Design, draw: Draw) -> Network:
    """A Linear behind that is not trained."""
    if design.kind is nn.Bilinear:
        return _pairs(design, draw, lambda o: linear_behind(design, draw, o).requires_grad_(False))
    modules, inputs, d = layer_with_inputs(design, draw)
    frozen = linear_behind(design, draw, d).requires_grad_(False)
    return wired(nn.Sequential(*modules, frozen), inputs)


def called_twice(design: Design, draw: Draw) -> Network:
    """One layer, called on its own output."""
    how = {"twice": True} if issubclass(design.kind, ANY_CONVOLUTION) else {}
    modules, inputs, d = layer_with_inputs(design, draw, square=True, **how)
    head = nn.Flatten() if how else linear_behind(design, draw, d)
    return wired(networks.CalledTwice(modules[0], modules[1], head), inputs)


def under_two_names_called_twice(design: Design, draw: Draw) -> Network:
    """One layer at two places of a Sequential."""
    how = {"twice": True} if issubclass(design.kind, ANY_CONVOLUTION) else {}
    (layer, act, *_), inputs, _ = layer_with_inputs(design, draw, square=True, **how)
    return wired(nn.Sequential(layer, act, layer, nn.Flatten()), inputs)


def tied(design: Design, draw: Draw) -> Network:
    """Two modules with one weight and one bias."""
    how = {"twice": True} if issubclass(design.kind, ANY_CONVOLUTION) else {}
    (layer, act, *_), inputs, _ = layer_with_inputs(design, draw, square=True, **how)
    again = _like(design, layer)
    again.weight, again.bias = layer.weight, layer.bias
    return wired(nn.Sequential(layer, act, again, nn.Flatten()), inputs)


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
    (layer, *rest), inputs, d = layer_with_inputs(design, draw)
    rest += [linear_behind(design, draw, d)] if design.kind is nn.Linear else []
    return wired(nn.Sequential(networks.TwoNames(layer), *rest), inputs)


def behind_another(design: Design, draw: Draw) -> Network:
    """Two convolutions of one kind, one behind the other; the second has a kernel of ones."""
    (layer, act, *_), inputs, _ = layer_with_inputs(design, draw)
    c: Any = layer.out_channels
    second = design.kind(c, 4, 1, bias=design.bias)
    return wired(nn.Sequential(layer, act, second, nn.Flatten()), inputs)
