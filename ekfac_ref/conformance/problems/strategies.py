"""A network is drawn, its geometry, its data, and how the data is cut; by a seed or by Hypothesis.

Structure is drawn choice by choice, so Hypothesis can shrink it; values come from a seed among the
choices, either from the lattice {-1, -1/2, 0, 1/2, 1}, which can be read, or generic ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum, log2, prod, sqrt
from random import Random
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ekfac_ref.conformance.problems import data
from ekfac_ref.conformance.problems.choices import BOTH, Draw, DrawInteger, by_hypothesis
from ekfac_ref.conformance.problems.designed.batching import in_batches
from ekfac_ref.conformance.problems.families.catalogue import FAMILIES, TAGGERS, Family
from ekfac_ref.conformance.problems.networks import ClassesFirst, Network
from ekfac_ref.question.columns import Exact, Fisher
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand, Sharing


@dataclass(frozen=True, eq=False)
class Drawn:
    """A problem without its Fisher and sharing, as ``network_with_data`` draws it.

    Attributes:
        model: with the drawn parameters, in eval mode.
        batches: (inputs, targets), inputs a tensor, a tuple or a dict of tensors.
        likelihood: of the targets, float [n, K] or [n, T, K], or class numbers [n] or [n, T].
        mask: inputs to a bool [n, T], True at the positions that count; None where all do.
        corners: names of the corners of the algebra that it reaches, for tests to count.
    """

    model: nn.Module
    batches: list[tuple[Any, Tensor]]
    likelihood: Likelihood
    mask: Callable[[Any], Tensor | None] | None
    corners: frozenset[str]

    def problem(self, fisher: Fisher | None = None, sharing: Sharing | None = None) -> Problem:
        """The problem under a Fisher and a sharing."""
        return Problem(
            self.model,
            self.batches,
            self.likelihood,
            fisher=fisher or Exact(),
            sharing=sharing or Expand(),
            mask=self.mask,
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis would print every number of every tensor

    def __repr__(self) -> str:
        sizes = [len(y) for _, y in self.batches]
        return f"Drawn({self.model}, {self.likelihood}, batches of {sizes}, {sorted(self.corners)})"


def filler(lattice: bool, seed: int, dtype: torch.dtype) -> Callable[..., Tensor]:
    """A source of numbers: ``fill(*shape)`` is a tensor of the next ones, in this dtype.

    Generic ones are sums of four that are uniform, of mean 0 and variance 1. To the last digit they
    depend on the seed alone, while torch's random numbers depend on its version and, in a normal
    distribution, on the processor's logarithm.
    """
    numbers = Random(seed)

    def number() -> float:
        if lattice:
            return int(numbers.random() * 5) / 2 - 1
        return (fsum(numbers.random() for _ in range(4)) - 2) * sqrt(3)

    def fill(*shape: int) -> Tensor:
        values = [number() for _ in range(prod(shape))]
        return torch.tensor(values, dtype=torch.float64).reshape(shape).to(dtype)

    return fill


SEEDS = range(2**16)
_DTYPES = (torch.float64, torch.float64, torch.float32, torch.bfloat16)
# Sizes of batches, uneven but for one sample and for one batch; the first is what shrinks to.
_CUTS = ((1,), (2, 1), (1, 2), (3, 1, 2), (1, 3), (2, 3), (3,), (1, 2, 1), (2, 1, 3), (3, 1))


def network_with_data(
    draw: Draw,
    families: tuple[Family, ...] = FAMILIES,
    one_sample: bool = False,
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32),
) -> Drawn:
    """A network of one of the families with data: uneven batches, any likelihood and dtype."""
    family = draw(families)
    # One class has no Fisher, and taggers are there for classes.
    K = draw((2, 3) if family in TAGGERS else (2, 3, 1, 2, 3, 2))
    network = family(draw, K)
    likelihood = draw(_likelihoods(K, bool(network.token_shape)))
    sizes = (1,) if one_sample else draw(_CUTS)
    N = sum(sizes)
    dtype = draw([d for d in _DTYPES if d in dtypes])
    generic = draw(BOTH)  # shrinks to what can be read
    fill = filler(not generic, draw(SEEDS), dtype)
    model = with_drawn_values(network.model, fill, dtype)
    of_classes = isinstance(likelihood, Categorical | Bernoulli)
    saturated = of_classes and draw((False, False, False, True))
    if saturated:
        data.saturate(model)
    like = draw(_data(network, tame=saturated or isinstance(likelihood, Poisson)))
    inputs = _floats(like, network.inputs(N, fill))
    targets = drawn_targets(likelihood, (N, *network.token_shape), K, fill)
    # It takes the gradient from all other layers: from masked ones, which are few, it may not.
    of_vectors = not network.token_shape and not network.corners & {"images", "mask"}
    product = of_vectors and N in (4, 6) and draw(BOTH)
    if product:
        of_input, of_label = data.every_with_every(model, N)
        inputs, targets = tree_map(lambda x: x[of_input], inputs), targets[of_label]
    ignored = False
    if network.token_shape and isinstance(likelihood, Categorical) and N > 1:
        ignored = draw((True, True, False))
        if ignored:
            targets[1::2, 0] = likelihood.ignore_index
    classes_first = likelihood == Categorical(class_axis=1)
    reached = {
        type(likelihood).__name__: True,
        str(dtype).removeprefix("torch."): True,
        "classes first": classes_first,
        "N = 1": N == 1,
        "uneven batches": len(set(sizes)) > 1,
        "saturated": saturated,
        f"{like.__name__} data": any(map(torch.is_floating_point, tree_leaves(inputs))),
        "product data": product,
        "ignored labels": ignored,
    }
    return Drawn(
        nn.Sequential(model, ClassesFirst()).eval() if classes_first else model,
        in_batches(inputs, targets, sizes),
        likelihood,
        network.mask,
        network.corners | {corner for corner, yes in reached.items() if yes},
    )


@st.composite
def problems(
    draw: DrawInteger,
    families: tuple[Family, ...] = FAMILIES,
    one_sample: bool = False,
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32),
) -> Drawn:
    """What ``network_with_data`` draws, as a strategy for tests of Hypothesis."""
    return network_with_data(by_hypothesis(draw), families, one_sample, dtypes)


def _data(network: Network, tame: bool) -> tuple[data.Data, ...]:
    of_rows = network.corners & {"linear", "tokens"}  # a mask would leave rows that are not white
    return (*(data.TAME if tame else data.OF_ANY_SIZE), *(data.OF_ROWS if of_rows else ()))


def _floats(like: data.Data, inputs: Any) -> Any:
    return tree_map(lambda x: like(x) if x.dtype.is_floating_point else x, inputs)


def _likelihoods(K: int, of_positions: bool) -> tuple[Likelihood, ...]:
    """Where positions have labels, these are mostly classes."""
    others: tuple[Likelihood, ...] = (Gaussian(), Poisson(), Bernoulli())
    if K == 1:  # a softmax over one class has no Fisher
        return others
    if of_positions:
        return (*[Categorical(class_axis=1), Categorical()] * 6, *others)
    return (Categorical(), *others, Categorical(), Poisson())


def with_drawn_values(
    model: nn.Module, fill: Callable[..., Tensor], dtype: torch.dtype
) -> nn.Module:
    """Parameters of a size that leaves outputs of order one, so that nothing saturates."""
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(1, parameter[0].numel())
            # A power of two, which leaves sums on the lattice exact: where they cancel, a ReLU
            # must not open or close by rounding.
            parameter.copy_(fill(*parameter.shape) / 2 ** round(log2(fan_in) / 2))
    return model.eval()


def drawn_targets(
    likelihood: Likelihood, shape: tuple[int, ...], K: int, fill: Callable[..., Tensor]
) -> Tensor:
    """Labels that the likelihood takes: class numbers of this shape, or [*shape, K] of numbers."""
    if isinstance(likelihood, Categorical):
        return (fill(*shape).abs() * 2).long() % K
    y = fill(*shape, K)
    if isinstance(likelihood, Bernoulli):
        return (y > 0).to(y)
    return (y.abs() * 2).round() if isinstance(likelihood, Poisson) else y
