"""Tiny problems by hand, one for each corner that fifty drawn problems may leave out."""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.networks import CalledTwice, ClassesFirst, MaskedMean, TokenMean

LIKELIHOODS = (ek.Gaussian(), ek.Categorical(), ek.Bernoulli(), ek.Poisson())
FISHERS = (ek.Exact(), ek.Empirical())
SHARINGS = (ek.Expand(), ek.Reduce())


def witnesses() -> dict[str, ek.Problem]:
    """Three samples each, cut 2 + 1; widths up to 3."""
    kinds = {
        "vectors": _vectors(),
        "no bias": _without_bias(),
        "tagger": _taggers(),
        "image": images(),
        "words": _words(),
        "shared weight": _shared(),
        "mask": (_masked(sharing) for sharing in SHARINGS),
        "bilinear": [_problem(_net(Pairs()), (_numbers(3, 2), _numbers(3, 3)))],
    }
    return {f"{kind} {n}": p for kind, some in kinds.items() for n, p in enumerate(some, start=1)}


def _vectors() -> Iterator[ek.Problem]:
    for likelihood, fisher in product(LIKELIHOODS, FISHERS):
        net = _net(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
        yield _problem(net, _numbers(3, 2), likelihood, (2,), fisher=fisher)


def _without_bias() -> Iterator[ek.Problem]:
    """The same sample three times, or two out of three."""
    for x in (_numbers(1, 2).repeat(3, 1), _numbers(2, 2)[[0, 1, 0]]):
        yield _problem(_net(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 2)), x)


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
        net = _net(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), last)
        likelihood = ek.Categorical(axis)
        labels = torch.tensor([[0, 1, 1], [-100, 0, 1], [-100, 1, 0]])
        yield _problem(net, _numbers(3, 3, 2), likelihood, targets=labels, fisher=fisher)


def images() -> Iterator[ek.Problem]:
    """Convolutions whose axes differ in everything."""
    convolutions = (
        (nn.Conv1d(2, 2, 2, stride=2, dilation=3, padding=1), (6,)),
        (nn.Conv2d(2, 2, (2, 3), stride=(1, 2), dilation=(2, 1), padding=(0, 1)), (4, 3)),
        (nn.Conv1d(2, 2, 2, padding="same"), (3,)),
        (nn.Conv1d(1, 2, 3, padding=1, padding_mode="circular"), (3,)),
        (nn.Conv1d(2, 2, 2, groups=2), (3,)),
        (nn.ConvTranspose1d(2, 2, 2, stride=2), (2,)),
    )
    for layer, size in convolutions:
        x = _numbers(3, layer.in_channels, *size)
        left = layer(torch.zeros(1, *x.shape[1:])).numel()
        yield _problem(_net(layer, nn.Tanh(), nn.Flatten(), nn.Linear(left, 2)), x)


def _words() -> Iterator[ek.Problem]:
    ids = torch.tensor([[0, 1, 2], [2, 2, 1], [0, 0, 2]])
    yield _problem(_net(nn.Embedding(3, 2, padding_idx=0), TokenMean(), nn.Linear(2, 2)), ids)


def _shared() -> Iterator[ek.Problem]:
    yield _problem(_net(CalledTwice(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))), _numbers(3, 2))
    yield _problem(_net(TiedWithOneBias()), _numbers(3, 2))


def _masked(sharing: ek.Expand | ek.Reduce) -> ek.Problem:
    net = _net(MaskedMean(nn.Linear(2, 2), nn.Linear(2, 2)))
    counted = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    return _problem(
        net,
        {"x": _numbers(3, 3, 2), "mask": counted},
        sharing=sharing,
        mask=lambda given: given["mask"],
    )


def _problem(
    net: nn.Module,
    inputs: Tensor | tuple[Tensor, ...] | dict[str, Tensor],
    likelihood: object = LIKELIHOODS[0],
    out: tuple[int, ...] = (2,),
    targets: Tensor | None = None,
    **choices: object,
) -> ek.Problem:
    if targets is None and isinstance(likelihood, ek.Categorical):
        targets = torch.tensor([0, 1, 1])
    elif targets is None:
        targets = (_numbers(3, *out).abs() > 0.5).double()
    cuts = (slice(0, 2), slice(2, 3))
    batches = [
        (torch.utils._pytree.tree_map(lambda x, cut=cut: x[cut], inputs), targets[cut])
        for cut in cuts
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
