"""The digits, and the order in which a seed deals them out."""

from collections.abc import Iterator
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor

TRAIN = 1400  # of 1797 images
BATCH = 100  # divides TRAIN: every batch is as large as every other


@cache
def images_and_labels() -> tuple[Tensor, Tensor]:
    """Training images [1400, 64] in [0, 1] (float32) and labels [1400], in a fixed random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))[:TRAIN]
    images = torch.as_tensor(data.images, dtype=torch.float32).flatten(1) / 16
    return images[order], torch.as_tensor(data.target)[order]


def images_twice() -> tuple[Tensor, Tensor]:
    """The images as inputs and as targets."""
    images, _ = images_and_labels()
    return images, images


def deal(seed: int, samples: int) -> Iterator[Tensor]:
    """Indices of one batch after another, for ever: a new permutation for every epoch.

    A function of the seed alone: no global random state is read or moved.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(samples, generator=generator).split(BATCH)
