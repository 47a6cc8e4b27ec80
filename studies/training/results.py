"""Every number as JSON: settings, choices, curves, figures and errors."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from studies.training.ageing import Errors
from studies.training.compare import Curves, Figures
from studies.training.phases import Budget, Choices


def write(
    path: Path,
    budget: Budget,
    choices: dict[str, Choices],
    curves: dict[str, Curves],
    figures: dict[str, dict[str, Figures]],
    errors: list[Errors],
) -> None:
    """Infinity is written as null: JSON has none."""
    everything = {
        "budget": budget,
        "chosen": choices,
        "figures": figures,
        "errors": errors,
        "curves": curves,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(everything), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    return value
