"""Tiny problems by hand, one for each corner that fifty drawn problems may leave out.

Three samples or two, features and channels up to 3. Images are wider where a convolution needs it:
a stride, a dilation and a kernel that all differ do not fit into three pixels.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import accumulate, product

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.problems.designed.batching import in_a_dropping_loader
from ekfac_ref.conformance.problems.networks import CalledTwice, ClassesFirst, MaskedMean, TokenMean

LIKELIHOODS = (ek.Gaussian(), ek.Categorical(), ek.Bernoulli(), ek.Poisson())
FISHERS = (ek.Exact(), ek.Empirical())
SHARINGS = (ek.Expand(), ek.Reduce())


@cache
def witnesses() -> dict[str, ek.Problem]:
    """By name. Three samples, cut 2 + 1, unless it is about samples or batches."""
    kinds = {
        "vectors": _vectors(),
        "two layers": (_two_layers(cut) for cut in ((2, 1), (1, 2), (1, 1, 1))),
        "no bias": _without_bias(),
        "tagger": _taggers(),
        "tokens": _tokens(),
        "image": images(),
        "words": _words(),
        "shared weight": _shared(),
        "mask": (_masked(sharing) for sharing in SHARINGS),
        "bilinear": [_problem(_net(Pairs()), (_numbers(3, 2), _numbers(3, 3)))],
        "mask in a batch": [_masked(SHARINGS[0], without=True)],
        "dropped": [_dropped()],
    }
    return {f"{kind} {n}": p for kind, some in kinds.items() for n, p in enumerate(some, start=1)}


def _vectors() -> Iterator[ek.Problem]:
    """One layer, every likelihood and Fisher."""
    for likelihood, fisher in product(LIKELIHOODS, FISHERS):
        net = _net(nn.Linear(2, 2), nn.Tanh())
        yield _problem(net, _numbers(3, 2), likelihood, (2,), fisher=fisher)


def _two_layers(cut: tuple[int, ...]) -> ek.Problem:
    """One of them square, the bias included."""
    return _problem(_net(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2)), _numbers(3, 2), cut=cut)


def _without_bias() -> Iterator[ek.Problem]:
    """The same sample three times, or two out of three; then a single output."""
    for x in (_numbers(1, 2).repeat(3, 1), _numbers(2, 2)[[0, 1, 0]]):
        yield _problem(_net(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 2)), x)
    yield _problem(_net(nn.Linear(2, 1, bias=False), nn.Tanh()), _numbers(3, 2), out=(1,))


class TiedWithOneBias(nn.Module):
    """One weight used with a bias and without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


class Pairs(nn.Module):
    """A bilinear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(2, 3, 2)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.bilinear(x, z)


def _taggers() -> Iterator[ek.Problem]:
    """Classes at two or three positions, the first without a label in some samples."""
    for fisher, (axis, last) in product(FISHERS, ((-1, nn.Identity()), (1, ClassesFirst()))):
        net = _net(nn.Linear(2, 2), nn.Tanh(), last)
        likelihood = ek.Categorical(axis)
        labels = torch.tensor([[0, 1, 1], [-100, 0, 1], [-100, 1, 0]])
        yield _problem(net, _numbers(3, 3, 2), likelihood, targets=labels, fisher=fisher)


class Mixing(nn.Module):
    """Every position of [N, T, d] sees those before it, as in attention."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(1)


def _tokens() -> Iterator[ek.Problem]:
    """Two samples with fewer mean inputs than there are inputs; positions that mix.

    In the latter the second position has no label, and a gradient from the third.
    """
    net = _net(nn.Linear(2, 2), nn.Tanh(), TokenMean(), nn.Linear(2, 2))
    yield _problem(net, _numbers(2, 2, 2), sharing=ek.Reduce(), cut=(1, 1))
    net = _net(nn.Linear(2, 2), nn.Tanh(), Mixing(), nn.Linear(2, 2))
    labels = torch.tensor([[0, -100, 1], [1, 0, 1], [1, -100, 0]])
    yield _problem(net, _numbers(3, 3, 2), ek.Categorical(), targets=labels)


class ChannelMean(nn.Module):
    """Mean over the positions of [N, channels, T]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


def images() -> Iterator[ek.Problem]:
    """Convolutions whose axes differ in everything, then one corner each."""
    convolutions = (
        (nn.Conv1d(2, 2, 2, stride=2, dilation=3, padding=1), (6,)),
        (nn.Conv2d(2, 2, (2, 3), stride=(1, 2), dilation=(2, 1), padding=(0, 1)), (4, 3)),
        (nn.Conv1d(2, 2, 2, padding="same"), (3,)),
        (nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular"), (3,)),
        (nn.Conv1d(2, 2, 2, groups=2), (3,)),
        (nn.ConvTranspose1d(2, 2, 2, stride=2), (2,)),
        (nn.Conv1d(2, 2, 2, stride=2), (5,)),
        (nn.ConvTranspose1d(2, 2, 2, stride=2, output_padding=1), (2,)),
    )
    for layer, size in convolutions:
        x = _numbers(3, layer.in_channels, *size)
        yield _problem(_net(layer, nn.Tanh(), nn.Flatten(2), ChannelMean()), x)


def _words() -> Iterator[ek.Problem]:
    ids = torch.tensor([[0, 1, 2], [2, 2, 1], [0, 0, 2]])
    yield _problem(_net(nn.Embedding(3, 2, padding_idx=0), TokenMean(), nn.Linear(2, 2)), ids)


def _shared() -> Iterator[ek.Problem]:
    yield _problem(_net(CalledTwice(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))), _numbers(3, 2))
    yield _problem(_net(TiedWithOneBias()), _numbers(3, 2))


def _masked(sharing: ek.Expand | ek.Reduce, without: bool = False) -> ek.Problem:
    """The last batch without a mask, where the first sample has one, or with one."""
    net = _net(MaskedMean(nn.Linear(2, 2), nn.Linear(2, 2)))
    counted = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    problem = _problem(
        net,
        {"x": _numbers(3, 3, 2), "mask": counted.roll(1, 0) if without else counted},
        sharing=sharing,
        mask=lambda given: given.get("mask"),
    )
    if without:
        del [*problem.batches][-1][0]["mask"]  # type: ignore[union-attr]
    return problem


def _dropped() -> ek.Problem:
    """A DataLoader that drops the last one of three samples."""
    problem = _two_layers((3,))
    ((x, y),) = problem.batches
    return replace(problem, batches=in_a_dropping_loader(x, y, (2, 1)))


def _problem(
    net: nn.Module,
    inputs: Tensor | tuple[Tensor, ...] | dict[str, Tensor],
    likelihood: object = LIKELIHOODS[0],
    out: tuple[int, ...] = (2,),
    targets: Tensor | None = None,
    cut: tuple[int, ...] = (2, 1),
    **choices: object,
) -> ek.Problem:
    if targets is None and isinstance(likelihood, ek.Categorical):
        targets = torch.tensor([0, 1, 0])
    elif targets is None:
        targets = (_numbers(sum(cut), *out).abs() > 0.5).double()
    ends = list(accumulate(cut))
    batches = [
        (torch.utils._pytree.tree_map(lambda x, part=part: x[part], inputs), targets[part])
        for part in (slice(end - size, end) for end, size in zip(ends, cut, strict=True))
    ]
    return ek.Problem(net, batches, likelihood, **choices)


def _net(*modules: nn.Module) -> nn.Module:
    net = (modules[0] if len(modules) == 1 else nn.Sequential(*modules)).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.7 * _numbers(*parameter.shape))
    return net


def _numbers(*shape: int) -> Tensor:
    """Generic numbers of order one, the same for the same shape."""
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)
