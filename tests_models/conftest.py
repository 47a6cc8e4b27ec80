"""Quiet, offline, one thread; and torchvision beside a torch that it was not compiled for."""

import importlib.util
import os
import random
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
torch.set_num_threads(1)

# torchvision declares ops of its own (boxes, deformable convolutions) when its compiled half is
# loaded, which fails where that is for CUDA and torch is not. No network here calls one.
OPS = ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")


def _declare_ops() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for op in OPS:
        for name in (op, f"_{op}_backward"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor x) -> Tensor")
    globals()["_kept"] = library


spec: ModuleSpec | None = importlib.util.find_spec("torchvision")
if spec is not None:
    _declare_ops()


@pytest.fixture(autouse=True)
def _the_same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
