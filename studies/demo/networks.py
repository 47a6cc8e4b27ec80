"""Two small networks, trained on digits for a few seconds."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from studies.digits import TRAIN

Batches = list[tuple[Tensor, Tensor]]

EPOCHS = 40
UNEVEN = (128, 96, 64, 12)  # batch sizes for the curvature: a mean of batch means would show


def networks() -> dict[str, nn.Sequential]:
    """A CNN and an MLP whose exact blocks stay small enough to be written down: P <= 1300."""
    torch.manual_seed(0)
    return {
        "CNN": nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, 3, padding=1),  # 64 positions
                gelu1=nn.GELU(),
                pool1=nn.AvgPool2d(2),
                conv2=nn.Conv2d(6, 12, 3),  # 4 positions
                gelu2=nn.GELU(),
                flatten=nn.Flatten(),
                linear1=nn.Linear(48, 24),
                gelu3=nn.GELU(),
                linear2=nn.Linear(24, 10),
            )
        ),
        "MLP": nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                linear1=nn.Linear(64, 20),
                tanh1=nn.Tanh(),
                linear2=nn.Linear(20, 16),
                tanh2=nn.Tanh(),
                linear3=nn.Linear(16, 10),
            )
        ),
    }


def train(model: nn.Module, images: Tensor, labels: Tensor, tick: Callable[[float], None]) -> float:
    """Train with Adam on cross-entropy in float32; the share of test images that come out right.

    ``tick`` is called after each epoch, with the loss of its last batch.
    """
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for index in torch.randperm(TRAIN, generator=generator).split(64):
            loss = nn.functional.cross_entropy(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        tick(loss.item())
    with torch.no_grad():
        guess = model(images[TRAIN:]).argmax(-1)
    return (guess == labels[TRAIN:]).double().mean().item()


def curvature_batches(images: Tensor, labels: Tensor) -> Batches:
    """The first 300 training images in float64, in batches of uneven sizes."""
    N = sum(UNEVEN)
    return list(zip(images[:N].double().split(UNEVEN), labels[:N].split(UNEVEN), strict=True))


def layers(model: nn.Module) -> list[str]:
    """Names of the modules that own parameters, as ``Problem(layers=)`` takes them."""
    return [name for name, module in model.named_modules() if list(module.parameters(False))]
