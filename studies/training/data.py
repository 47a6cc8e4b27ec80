"""The training images of the digits, and the order in which a seed takes them in batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from studies.digits import TRAIN, digits

BATCH = 100  # divides TRAIN: every batch is as large as every other


def images_and_labels() -> tuple[Tensor, Tensor]:
    """Training images [1400, 64] in [0, 1] (float32) and labels [1400]."""
    images, labels = digits()
    return images[:TRAIN].flatten(1), labels[:TRAIN]


def images_and_images() -> tuple[Tensor, Tensor]:
    """The training images as inputs and as targets, each [1400, 64]: data of an autoencoder."""
    images, _ = images_and_labels()
    return images, images


def batch_indices(seed: int, samples: int) -> Iterator[Tensor]:
    """Indices of one batch after another, without end: a new permutation for every epoch.

    A function of the seed alone: no global random state is read or moved.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(samples, generator=generator).split(BATCH)
