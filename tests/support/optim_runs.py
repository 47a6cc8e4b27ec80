"""A small network, its data, and an optimizer of either kind that has it."""

from typing import Any

import torch
from torch import Tensor, nn

Values = dict[str, Tensor]


def network() -> nn.Module:
    """Two layers, and a norm layer that no curvature is known of."""
    torch.manual_seed(1)
    layers = nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2)
    return nn.Sequential(*layers).double()


def data(seed: int = 0, samples: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(2, (samples,), generator=generator)


def optimizer(make: Any, model: nn.Module, **settings: Any) -> Any:
    choices = {"lr": 0.1, "damping": 0.01, "layers": ("0", "3"), "recompute_every": 2}
    choices |= {"momentum": 0.0, "kl_clip": None}
    return make(model, nn.CrossEntropyLoss(), **{**choices, **settings})


def values(model: nn.Module) -> Values:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def give(model: nn.Module, gradients: Values) -> None:
    for name, p in model.named_parameters():
        p.grad = gradients[name].clone() if name in gradients else None


def backward(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss


def equal(one: Values, other: Values) -> bool:
    return list(one) == list(other) and all(torch.equal(one[k], other[k]) for k in one)


def leaves(state: Any) -> list[Any]:
    found = torch.utils._pytree.tree_leaves(state)
    return [x.tolist() if isinstance(x, torch.Tensor) else x for x in found]
