"""Every number as JSON: budget, choices, outcomes and curves."""

import json
import platform
from dataclasses import asdict, is_dataclass
from math import inf
from pathlib import Path
from typing import Any

import torch

from studies.training.outcomes import Curves, Outcome
from studies.training.phases import Budget, Choices


def write(
    path: Path,
    budget: Budget,
    choices: dict[str, Choices],
    curves: dict[str, Curves],
    outcomes: dict[str, dict[str, Outcome]],
) -> None:
    """Write the file; infinity becomes null, since JSON has none."""
    everything = {
        "budget": budget,
        "chosen": choices,
        "outcomes": outcomes,
        "curves": curves,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_plain(everything), indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if value in (inf, -inf) else value
