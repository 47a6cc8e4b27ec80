"""The three models that speed is measured on: float32, random data, ten classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ekfac_ref as ek


class MeanOverTokens(nn.Module):
    """The mean over tokens: ``[N, T, d]`` in, ``[N, d]`` out."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


@dataclass(frozen=True, eq=False)
class Case:
    """A model and its data, as every library takes them."""

    name: str
    model: nn.Module
    loader: DataLoader[tuple[Tensor, ...]]

    @property
    def problem(self) -> ek.Problem:
        """The model and data as this package takes them: empirical Fisher, KFAC-expand."""
        return ek.Problem(self.model, self.loader, ek.Categorical(), fisher=ek.Empirical())

    @property
    def samples(self) -> int:
        """N, the number of samples in all batches."""
        return sum(len(y) for _, y in self.loader)


def cases() -> list[Case]:
    """An MLP, a CNN, and a model with a token axis, with their data."""
    mlp = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    convolutions = (
        *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
    )
    cnn = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(2048, 10))
    tokens = nn.Sequential(
        *(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 128), nn.ReLU()),
        *(MeanOverTokens(), nn.Linear(128, 10)),
    )
    return [
        _case("MLP 784-512-256-10, N = 2048", mlp, (2048, 784)),
        _case("CNN 3-16-32, Linear 2048-10, N = 256", cnn, (256, 3, 32, 32)),
        _case("tokens 64 x (128, 512), N = 256", tokens, (256, 64, 128)),
    ]


def _case(name: str, model: nn.Module, shape: tuple[int, ...]) -> Case:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            fan_in = p[0].numel()
            p.copy_(torch.randn(p.shape, generator=generator) * (2 / fan_in) ** 0.5)
    x = torch.randn(shape, generator=generator)
    y = torch.randint(10, shape[:1], generator=generator)
    return Case(name, model.eval(), DataLoader(TensorDataset(x, y), batch_size=256))
