"""What an optimizer declares of its rules, and what numbers the kit gives it to go by."""

from dataclasses import dataclass, field

from ekfac_ref.conformance.declared.averages import (
    Average,
    FromTheFirst,
    FromZero,
    Latest,
    OverBatches,
    OverSamples,
)
from ekfac_ref.errors import ProblemError


@dataclass(frozen=True)
class ReExpressed:
    """At a refresh Lambda becomes the diagonal of the old E in the new basis."""


@dataclass(frozen=True)
class Restarted:
    """At a refresh Lambda begins anew with that batch."""


@dataclass(frozen=True)
class ByCurvature:
    """nu = min(1, sqrt(2 kl_clip / sum over layers of Delta^T M Delta)), M without damping."""


@dataclass(frozen=True)
class ByGradient:
    """nu = min(1, sqrt(kl_clip / sum over layers of lr^2 x^T g)), x = P g the direction."""


@dataclass(frozen=True)
class Training:
    r"""The rules of an optimizer. One step, with g the gradient of the batch's mean loss:

        M   from the batch, and from those before by ``average`` and ``at_refresh``
        v   <- momentum v + (M + damping I)^-1 g
        theta <- theta - nu lr v            nu = 1 without a clip

    M has the batch in it already. It is EKFAC's E, with eigenvectors of the running A and B taken
    at the first update and every ``refresh_every`` updates, and Lambda a running mean of its own;
    or KFAC's B (x) A of the last refresh, where ``Definition.damping`` declares that.
    Momentum is asked without a clip: whether v is kept shortened is not part of these rules.

    Attributes:
        average: OverSamples(), OverBatches(), FromTheFirst(), FromZero() or Latest().
        at_refresh: ReExpressed() or Restarted().
        has_momentum: whether ``Hyperparameters.momentum`` is heeded; if not, it is told 0 only.
        clip: None, ByCurvature() or ByGradient(): how a step is shortened to ``kl_clip``.
        refresh_every: None where it goes by the one it is given; or the number it always has.
    """

    average: Average = field(default_factory=OverSamples)
    at_refresh: ReExpressed | Restarted = field(default_factory=ReExpressed)
    has_momentum: bool = True
    clip: ByCurvature | ByGradient | None = None
    refresh_every: int | None = None

    def __post_init__(self) -> None:
        averages = (OverSamples, OverBatches, FromTheFirst, FromZero, Latest)
        for name, value, kinds in (
            ("average", self.average, averages),
            ("at_refresh", self.at_refresh, (ReExpressed, Restarted)),
            ("clip", self.clip, (ByCurvature, ByGradient, type(None))),
        ):
            if not isinstance(value, kinds):
                choices = " or ".join(f"{k.__name__}()" for k in kinds if k is not type(None))
                raise ProblemError(f"training: {name} is {value!r}; pass {choices}.")


@dataclass(frozen=True)
class Hyperparameters:
    """Numbers that an optimizer is to go by, in the terms of ``Training``.

    Attributes:
        lr: learning rate.
        damping: that is added to the eigenvalues of M, which is the unit likelihood's, with 1/N.
        decay: beta of the running means.
        refresh_every: updates from one eigenbasis to the next.
        momentum: of the velocity v; v begins at 0, and is not dampened.
        kl_clip: None, or the largest KL divergence of one step, in nats per sample.
    """

    lr: float
    damping: float
    decay: float
    refresh_every: int = 1
    momentum: float = 0.0
    kl_clip: float | None = None
