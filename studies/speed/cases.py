"""The six models that speed is measured on: float32, random data, ten classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ekfac_ref as ek
from studies.speed.networks import LanguageModel, MeanOverTokens, efficient, resnet18


@dataclass(frozen=True, eq=False)
class Case:
    """A model and its data, as every library takes them.

    What is neither Linear nor a convolution is frozen, since not every library has it.
    """

    name: str
    model: nn.Module
    loader: DataLoader[tuple[Tensor, ...]]
    class_axis: int = 1

    @property
    def problem(self) -> ek.Problem:
        """The model and data as this package takes them: empirical Fisher, KFAC-expand."""
        likelihood = ek.Categorical(class_axis=self.class_axis)
        return ek.Problem(self.model, self.loader, likelihood, fisher=ek.Empirical())

    @property
    def samples(self) -> int:
        """N, the number of samples in all batches."""
        return sum(len(y) for _, y in self.loader)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are not frozen, by name."""
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def loss(self, f: Tensor, y: Tensor) -> Tensor:
        """The negative log-likelihood of a batch, summed."""
        return nn.functional.cross_entropy(f.movedim(self.class_axis, 1), y, reduction="sum")


def cases() -> list[Case]:
    """An MLP, a CNN, tokens, a wide layer, a ResNet and a language model, with their data."""
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
    wide = nn.Sequential(nn.Linear(4096, 32), nn.ReLU(), nn.Linear(32, 10))
    return [
        _of_images("MLP 784-512-256-10, N = 2048", mlp, (2048, 784)),
        _of_images("CNN 3-16-32, Linear 2048-10, N = 256", cnn, (256, 3, 32, 32)),
        _of_images("tokens 64 x (128, 512), N = 256", tokens, (256, 64, 128)),
        _of_images("wide layer 4097, N = 256", wide, (256, 4096)),
        _of_images("ResNet-18, width 64, N = 16", resnet18(64, 10), (16, 3, 32, 32)),
        _of_language("language model, 4 blocks of 256, 128 tokens, N = 16"),
    ]


def depthwise() -> Case:
    """A network whose convolutions over positions each have one channel of input."""
    return _of_images("depthwise, 16 blocks, N = 16", efficient(10), (16, 3, 32, 32))


def _of_images(name: str, model: nn.Module, shape: tuple[int, ...]) -> Case:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator)
    y = torch.randint(10, shape[:1], generator=generator)
    return _case(name, model, x, y)


def _of_language(name: str) -> Case:
    words, length = 300, 128
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(words, (2, 16, length), generator=generator)
    return _case(name, LanguageModel(256, 4, words, length), x, y, class_axis=-1)


def _case(name: str, model: nn.Module, x: Tensor, y: Tensor, class_axis: int = 1) -> Case:
    generator = torch.Generator().manual_seed(0)
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    model.requires_grad_(False)
    for parameter in (p for layer in layers for p in layer.parameters()):
        fan_in = parameter[0].numel()
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)
        parameter.requires_grad_()
    loader = DataLoader(TensorDataset(x, y), batch_size=256)
    return Case(name, model.eval(), loader, class_axis)
