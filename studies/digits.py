"""Scikit-learn's digits: the data of the demo and of the training comparison."""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor

TRAIN = 1400  # of 1797 images; the rest tell the accuracy


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Images [1797, 1, 8, 8] in [0, 1] (float32), labels [1797], in a fixed random order."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.as_tensor(data.images, dtype=torch.float32)[:, None] / 16
    return images[order], torch.as_tensor(data.target)[order]
