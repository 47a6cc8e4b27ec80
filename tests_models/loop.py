"""Gradients of one sample's loss by plain autograd. Nothing of the package is in here."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests_models.architectures import IGNORED, Architecture


def called(model: nn.Module, inputs: Any) -> Any:
    """The model as its owner calls it."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def sample(inputs: Any, n: int) -> Any:
    """Sample n of a batch, with an axis for it."""
    if isinstance(inputs, Mapping):
        return {k: x[n : n + 1] if isinstance(x, Tensor) else x for k, x in inputs.items()}
    return inputs[n : n + 1]


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over positions."""
    return F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        reduction="sum",
        ignore_index=IGNORED,
    )


def gradients(
    architecture: Architecture, model: nn.Module, inputs: Any, labels: Tensor, together: bool
) -> list[dict[str, Tensor]]:
    """{parameter: gradient of its loss} of every sample, run with the others or by itself."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    logits = architecture.outputs(called(model, inputs)) if together else None
    found = []
    for n in range(len(labels)):
        alone = sample(inputs, n)
        f = architecture.outputs(called(model, alone)) if logits is None else logits[n : n + 1]
        g = torch.autograd.grad(
            loss(f, labels[n : n + 1]),
            [*parameters.values()],
            retain_graph=together,
            materialize_grads=True,
            allow_unused=True,
        )
        found.append(dict(zip(parameters, g, strict=True)))
    return found


def matrix(module: nn.Module, weight: Tensor) -> Tensor:
    """The gradient of a module's weight as [d_out, d_in]."""
    transposed = isinstance(module, nn.Embedding) or type(module).__name__ == "Conv1D"
    return weight.T if transposed else weight.flatten(1)
