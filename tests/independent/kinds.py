"""A catalogue of tiny float64 problems, 3 samples each, over every kind of layer and of wiring.

``KINDS[name]()`` builds one afresh, always the same, and leaves the global random state alone.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tests.independent.columns import Loss
from tests.independent.geometries import GEOMETRIES, Geometry
from tests.independent.losses import (
    bernoulli,
    cross_entropy,
    half_squared_error,
    poisson,
    token_cross_entropy,
)
from tests.independent.networks import (
    CalledTwice,
    TokenTagger,
    TwoInputs,
    tied,
    under_two_names,
    with_frozen_bias,
)

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Kind:
    """A problem: which layer of which model it is about, on what data, under which loss."""

    name: str
    layer_name: str
    model: nn.Module
    inputs: Inputs
    targets: Tensor
    loss: Loss


Targets = Callable[[Tensor], Tensor]
Wiring = tuple[str, nn.Module, Inputs, Loss, Targets]


def numbers(*shape: int) -> Tensor:
    """Standard normal inputs."""
    return torch.randn(3, *shape, dtype=torch.float64)


def words(vocabulary: int, *shape: int) -> Tensor:
    """Any words, but word 0 comes first and the last one of the vocabulary last."""
    drawn = torch.randint(vocabulary, (3, *shape))
    drawn[:, 0], drawn[:, -1] = 0, vocabulary - 1
    return drawn


def real_numbers(f: Tensor) -> Tensor:
    """Standard normal targets."""
    return torch.randn_like(f)


def zeros_and_ones(f: Tensor) -> Tensor:
    """Bernoulli labels."""
    return torch.randint(2, f.shape).to(f)


def counts(f: Tensor) -> Tensor:
    """Poisson counts."""
    return torch.randint(4, f.shape).to(f)


def classes_last(f: Tensor) -> Tensor:
    """Labels [N, *positions] for f [N, *positions, classes]."""
    return torch.randint(f.shape[-1], f.shape[:-1])


def classes_second(f: Tensor) -> Tensor:
    """Labels [N, *positions] for f [N, classes, *positions]."""
    return classes_last(f.movedim(1, -1))


def some_ignored(f: Tensor) -> Tensor:
    """As classes_last; one label of the first sample and all of the second are ignored."""
    labels = classes_last(f)
    labels[0, -1], labels[1] = -100, -100
    return labels


def squared(layer_name: str, model: nn.Module, inputs: Inputs) -> Wiring:
    """The most common ending."""
    return layer_name, model, inputs, half_squared_error, real_numbers


def with_head(geometry: Callable[[], Geometry]) -> Wiring:
    """The layer, tanh, and a linear head that mixes all positions into 2 outputs."""
    layer, shape = geometry()
    x = numbers(*shape)
    head = nn.Linear(layer.double()(x)[0].numel(), 2)
    return squared("0", nn.Sequential(layer, nn.Tanh(), nn.Flatten(), head), x)


def perceptron(d_in: int, d_out: int) -> nn.Module:
    """Linear, tanh, linear."""
    return nn.Sequential(nn.Linear(d_in, 4), nn.Tanh(), nn.Linear(4, d_out))


def tagger(word: nn.Embedding, loss: Loss, targets: Targets, layer_name: str = "word") -> Wiring:
    """Three classes at each of 3 positions."""
    d = word.embedding_dim
    model = TokenTagger(word, nn.Embedding(3, d), nn.Linear(d, 3))
    return layer_name, model, words(word.num_embeddings, 3), loss, targets


WIRINGS: dict[str, Callable[[], Wiring]] = {
    "linear_alone": lambda: squared("", nn.Linear(3, 2), numbers(3)),
    "linear_token_wise": lambda: squared("0", perceptron(3, 2), numbers(3, 3)),
    "linear_frozen_bias": lambda: squared(
        "0",
        nn.Sequential(with_frozen_bias(nn.Linear(3, 3)), nn.Tanh(), nn.Linear(3, 2)),
        numbers(3),
    ),
    "linear_then_inplace_relu": lambda: squared(
        "0", nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Linear(5, 2)), numbers(3)
    ),
    "conv2d_then_inplace_relu": lambda: squared(
        "0",
        nn.Sequential(
            nn.Conv2d(1, 3, (2, 3), padding=(1, 0)),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(24, 2),
        ),
        numbers(1, 3, 4),
    ),
    "conv_then_conv": lambda: squared(
        "2",
        nn.Sequential(
            nn.Conv1d(2, 3, 2, stride=2),
            nn.Tanh(),
            nn.ConvTranspose1d(3, 2, 3, stride=2, output_padding=1),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(16, 2),
        ),
        numbers(2, 7),
    ),
    "linear_called_twice": lambda: squared(
        "repeated", CalledTwice(nn.Linear(3, 3), nn.Linear(3, 2)), numbers(3)
    ),
    "linear_called_twice_on_positions": lambda: squared(
        "repeated", CalledTwice(nn.Linear(2, 2), nn.Linear(2, 1)), numbers(3, 2)
    ),
    "conv1d_called_twice_on_shrinking_inputs": lambda: squared(
        "repeated",
        CalledTwice(nn.Conv1d(2, 2, 2, stride=2), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))),
        numbers(2, 9),
    ),
    "linear_under_two_names": lambda: squared(
        "0", under_two_names(nn.Linear(3, 3), nn.Linear(3, 2)), numbers(3)
    ),
    "linear_tied": lambda: squared(
        "0", tied(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)), numbers(3)
    ),
    "linear_tied_with_bias": lambda: squared(
        "0", tied(nn.Linear(3, 3), nn.Linear(3, 3)), numbers(3)
    ),
    "linear_tied_one_bias_absent": lambda: squared(
        "0", tied(nn.Linear(3, 3), nn.Linear(3, 3, bias=False)), numbers(3)
    ),
    "bilinear": lambda: squared(
        "bilinear", TwoInputs(nn.Bilinear(2, 3, 4), nn.Linear(4, 2)), (numbers(2), numbers(3))
    ),
    "bilinear_without_bias_on_positions": lambda: squared(
        "bilinear",
        TwoInputs(nn.Bilinear(3, 2, 2, bias=False), nn.Sequential(nn.Flatten(), nn.Linear(6, 2))),
        (numbers(3, 3), numbers(3, 2)),
    ),
    "bilinear_by_name": lambda: squared(
        "bilinear",
        TwoInputs(nn.Bilinear(2, 2, 3), nn.Linear(3, 2)),
        {"x2": numbers(2), "x1": numbers(2)},
    ),
    "embedding": lambda: squared(
        "0",
        nn.Sequential(nn.Embedding(5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)),
        words(5, 3),
    ),
    "embedding_two_axes_last_word_padding": lambda: squared(
        "0",
        nn.Sequential(nn.Embedding(4, 2, padding_idx=-1), nn.Flatten(), nn.Linear(8, 2)),
        words(4, 2, 2),
    ),
    "two_embeddings_with_padding": lambda: tagger(
        nn.Embedding(5, 4, padding_idx=0), token_cross_entropy, classes_last
    ),
    "tokens_ignored_labels": lambda: tagger(nn.Embedding(4, 3), token_cross_entropy, some_ignored),
    "tokens_ignored_labels_at_the_head": lambda: tagger(
        nn.Embedding(4, 3), token_cross_entropy, some_ignored, "head"
    ),
    "tokens_squared_error": lambda: tagger(
        nn.Embedding(4, 2), half_squared_error, real_numbers, "place"
    ),
    "classes": lambda: ("0", perceptron(3, 4), numbers(3), token_cross_entropy, classes_last),
    "two_classes": lambda: ("0", perceptron(3, 2), numbers(3), cross_entropy, classes_second),
    "classes_in_torch_layout": lambda: (
        "0",
        nn.Sequential(nn.Conv1d(2, 4, 2, dilation=2), nn.Tanh(), nn.Conv1d(4, 3, 2, stride=2)),
        numbers(2, 7),
        cross_entropy,
        classes_second,
    ),
    "bernoulli": lambda: ("0", perceptron(3, 3), numbers(3), bernoulli, zeros_and_ones),
    "bernoulli_on_positions": lambda: (
        "0",
        perceptron(2, 2),
        numbers(2, 2),
        bernoulli,
        zeros_and_ones,
    ),
    "poisson": lambda: ("0", perceptron(3, 2), numbers(3), poisson, counts),
    "poisson_image": lambda: (
        "0",
        nn.Sequential(nn.Conv2d(1, 2, (2, 1)), nn.Tanh(), nn.ConvTranspose2d(2, 1, (1, 2))),
        numbers(1, 3, 2),
        poisson,
        counts,
    ),
}


def build(name: str, wire: Callable[[], Wiring]) -> Kind:
    """The kind of this name, its random numbers drawn from a seed of its own."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Torch says once per process that an even 'same' kernel costs a copy. So it does.
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        layer_name, model, inputs, loss, targets = wire()
        model.double().eval()
        with torch.no_grad():
            f = _run(model, inputs)
        return Kind(name, layer_name, model, inputs, targets(f), loss)


def _run(model: nn.Module, inputs: Inputs) -> Tensor:
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


KINDS: dict[str, Callable[[], Kind]] = {
    name: partial(build, name, wire)
    for name, wire in {
        **{name: partial(with_head, geometry) for name, geometry in GEOMETRIES.items()},
        **WIRINGS,
    }.items()
}
