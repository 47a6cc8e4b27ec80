"""What is tuned of each optimizer, and the optimizer that one setting makes.

What is not tuned is alike: momentum 0.9 (Adam: torch's defaults), and for KFAC and EKFAC the same
Fisher, decay, recompute interval and trust region. Damping is in units of the loss's own curvature.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC

MOMENTUM = 0.9
DECAY = 0.95  # of the running factors and eigenvalues, per step
RECOMPUTE_EVERY = 10  # steps between two eigenbases
KL_CLIP = 0.003  # nats per sample and step


@dataclass(frozen=True)
class Momentum:
    """SGD with momentum 0.9, its learning rate tuned."""

    lr: float

    # The seed is that of labels that are drawn from the model; SGD and Adam draw none.
    def optimizer(
        self, model: nn.Module, likelihood: ek.Likelihood, seed: int
    ) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=MOMENTUM)


@dataclass(frozen=True)
class Adam:
    """Adam with torch's defaults (Kingma & Ba 2015), its learning rate tuned."""

    lr: float

    def optimizer(
        self, model: nn.Module, likelihood: ek.Likelihood, seed: int
    ) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=self.lr)


@dataclass(frozen=True)
class Kfac:
    """KFAC with momentum and a trust region, its learning rate and damping tuned."""

    lr: float
    damping: float

    def optimizer(self, model: nn.Module, likelihood: ek.Likelihood, seed: int) -> KFAC:
        return KFAC(model, likelihood, **_alike(self, seed))


@dataclass(frozen=True)
class Ekfac:
    """EKFAC with momentum and a trust region, its learning rate and damping tuned."""

    lr: float
    damping: float

    def optimizer(self, model: nn.Module, likelihood: ek.Likelihood, seed: int) -> EKFAC:
        return EKFAC(model, likelihood, **_alike(self, seed))


def _alike(setting: Kfac | Ekfac, seed: int) -> dict[str, Any]:
    """Keyword arguments of KFAC and EKFAC: what they have in common, and what is tuned."""
    return {
        "fisher": ek.Sampled(draws=1, seed=seed),
        "decay": DECAY,
        "recompute_every": RECOMPUTE_EVERY,
        "lr": setting.lr,
        "momentum": MOMENTUM,
        "damping": setting.damping,
        "kl_clip": KL_CLIP,
    }


Setting = Momentum | Adam | Kfac | Ekfac
