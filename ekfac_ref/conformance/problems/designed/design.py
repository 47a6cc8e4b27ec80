"""What a designed problem is put together from, part by part: the plain case of a kind of layer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.choices import Draw
from ekfac_ref.conformance.problems.designed.batching import Batching, in_batches
from ekfac_ref.conformance.problems.networks import Network
from ekfac_ref.question.columns import Empirical, Exact, Fisher
from ekfac_ref.question.likelihoods import Categorical, Likelihood
from ekfac_ref.question.sharing import Expand, Reduce, Sharing

Channels = tuple[int, int, int]  # groups, inputs of each, outputs of each
ByAxis = int | tuple[int, int]  # on all axes, or on the last two
Activation = Callable[[int, int], nn.Module]  # of so many channels and so many axes behind them


def ungrouped(draw: Draw) -> Channels:
    """Other numbers of inputs than of outputs."""
    return draw(((1, 2, 3), (1, 1, 3), (1, 2, 3)))


def smooth(channels: int, axes: int) -> nn.Module:
    """Tanh, whose derivative differs from sample to sample and from position to position."""
    return nn.Tanh()


@dataclass(frozen=True)
class Design:
    """All choices of a designed problem but sizes and numbers, which its draw makes.

    The defaults are the **plain case**: the kind alone, a tanh, and all that comes out as outputs
    of the sample: ``Sequential(kind, Tanh, Flatten)``, of one or two output positions to an axis
    where the kind is a convolution. Linear comes twice, ``Sequential(Linear, Tanh, Linear)``, and a
    Bilinear takes its two inputs. No other layer, no groups, stride 1, dilation 1, no padding, a
    bias, five or six samples in one batch, generic numbers. In ``plain``, by what is declared:
    float64, the exact Fisher, expand, classes.

    Attributes:
        kind: of the layer that it is about.
        bias: whether layers have one, if they can.
        likelihood, fisher, sharing, dtype: the question's.
        positions: whether a convolution may have several.
        wiring: what makes the network; it reads the other attributes.
        subclass: what the layer is an instance of, in place of ``kind``.
        frozen_bias: whether biases are constants.
        channels: of a convolution.
        stride, dilation, padding: options to draw from, one number for all axes or two for the last
            two, before which there is none. A padding may be 'same'.
        extent: of the kernel on its last axis, 1 on the others; None leaves that to the draw.
        mode: torch's padding_mode, options to draw from.
        output_padding: on the last axis.
        padding_idx: of an Embedding.
        many: whether there are more positions than weights.
        activation: behind the layer.
        sizes: of batches, options to draw from.
        batching: what makes batches of these sizes.
        ignored: whether some labels do not count.
        saturated: whether the last layer is so large that some outputs are decided.
    """

    kind: type[nn.Module]
    bias: bool
    likelihood: Likelihood
    fisher: Fisher
    sharing: Sharing
    dtype: torch.dtype
    positions: bool
    wiring: Callable[["Design", Draw], Network]
    subclass: type[nn.Module] | None = None
    frozen_bias: bool = False
    channels: Callable[[Draw], Channels] = ungrouped
    stride: tuple[ByAxis, ...] = (1,)
    dilation: tuple[ByAxis, ...] = (1,)
    padding: tuple[ByAxis, ...] | str = (0,)
    extent: int | None = None
    mode: tuple[str, ...] = ("zeros",)
    output_padding: int = 0
    padding_idx: int | None = None
    many: bool = False
    activation: Activation = smooth
    sizes: tuple[tuple[int, ...], ...] = ((6,), (5,))
    batching: Batching = in_batches
    ignored: bool = False
    saturated: bool = False


def plain_design(
    kind: type[nn.Module], abilities: Abilities, wiring: Callable[[Design, Draw], Network]
) -> Design:
    """The plain case of a kind, as far as the abilities have it; of each, else, the first."""
    likelihoods, fishers, sharings = abilities.likelihoods, abilities.fishers, abilities.sharings
    of = Categorical if Categorical in likelihoods else likelihoods[0]
    return Design(
        kind,
        abilities.bias and kind is not nn.Embedding,
        of(),
        Exact() if Exact in fishers else Empirical(),
        Expand() if Expand in sharings else Reduce(),
        torch.float64 if torch.float64 in abilities.dtypes else abilities.dtypes[0],
        abilities.positions,
        wiring,
    )
