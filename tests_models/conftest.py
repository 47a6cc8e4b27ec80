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


COLUMNS = ("network", "parameters", "G off by", "layers", "Lambda off by", "samples", "refused")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each network: what was computed, and how far from the loops."""
    rows: dict[str, dict[str, str]] = {}
    for report in terminalreporter.stats.get("passed", []):
        found = dict(report.user_properties)
        if "network" in found:
            rows.setdefault(found["network"], {}).update(found)
    if rows:
        terminalreporter.write_line("")
        for row in ({name: name for name in COLUMNS}, *rows.values()):
            cells = [str(row.get(name, "")) for name in COLUMNS]
            widths = (27, 10, 8, 6, 13, 8, 0)
            terminalreporter.write_line(
                "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            )


@pytest.fixture(autouse=True)
def _the_same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
