"""A problem opened for computing: a private copy of its model, its layers, its checked batches."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import vmap

from ekfac_ref.batches import Batch, read
from ekfac_ref.errors import ProblemError
from ekfac_ref.forward import batchable, call, forward_one
from ekfac_ref.layers import Layer, find_layers
from ekfac_ref.problem import Problem
from ekfac_ref.uses import uses


@dataclass(frozen=True, eq=False)
class Session:
    """Everything the model half needs.

    Attributes:
        problem: as the caller posed it.
        model: a copy of the caller's; ``functional_call`` on a model that holds one module under
            two names would leave plain tensors behind (torch 2.13), and forwards may write buffers.
        layers: of the copy.
    """

    problem: Problem
    model: nn.Module
    layers: tuple[Layer, ...]

    def batches(self) -> Iterator[Batch]:
        """One pass over the data, targets checked against the outputs of each first sample."""
        for batch in read(self.problem):
            if batch.first == 0:
                uses(self.model, self.layers, batch)
                _check_samples_apart(self.model, batch)
            yield batch

    def columns(self, f: Tensor, batch: Batch) -> Tensor:
        """S_n, [N, C, *out], for the batch's outputs f."""
        likelihood = self.problem.likelihood
        if not bool(torch.isfinite(f).all()):
            raise ProblemError(
                f"model: NaN or infinity in its outputs at sample {batch.first}; look for a "
                "division by zero or an overflow in its forward."
            )
        likelihood.check(f, batch.targets)
        return self.problem.fisher.columns(likelihood, f, batch.targets, batch.first)

    def column_count(self, batch: Batch) -> int:
        """C for the samples of this batch."""
        one = batch.samples(0, 1)
        return self.columns(call(self.model, one.inputs), one).shape[1]


def open_session(problem: Problem) -> Session:
    """Copy the model and check what can be checked without data."""
    _check_model(problem.model)
    model = copy.deepcopy(problem.model)
    for module in model.modules():
        # Backward hooks cannot change the function, and do not survive torch.func.
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    layers = find_layers(model, problem.layers)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Session(problem, model, layers)


def _check_model(model: nn.Module) -> None:
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        ):
            raise ProblemError(
                f"layer {name!r}: a {kind} in train mode (or without running statistics) mixes the "
                "samples of a batch, so there are no per-sample gradients; call model.eval() on a "
                "model that tracks running statistics."
            )
        dropout = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        if module.training and dropout:
            raise ProblemError(
                f"layer {name!r}: a {kind} in train mode draws a new network for every sample; "
                "call model.eval()."
            )
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ProblemError(
                f"parameter {name!r}: NaN or infinity in its values; restore the last good ones."
            )


def _check_samples_apart(model: nn.Module, batch: Batch) -> None:
    """Together and one by one must be the same function; rounding alone may differ."""
    few = batch.samples(0, min(4, batch.size))
    together = call(model, few.inputs)
    with batchable():
        alone = vmap(lambda x: forward_one(model, x))(few.inputs)
    if together.shape != alone.shape:
        raise ProblemError(
            f"model: {few.size} samples gave outputs of shape {list(together.shape)} together and "
            f"{list(alone.shape)} one by one; axis 0 of the output has to be the samples."
        )
    scale = together.abs().amax().clamp(min=1.0)
    if (together - alone).abs().amax() > torch.finfo(alone.dtype).eps ** 0.5 * scale:
        raise ProblemError(
            "model: the output of a sample depends on the other samples of its batch, so "
            "per-sample gradients are not defined; remove what mixes them (batch statistics, "
            "x - x.mean(0), a reshape across axis 0)."
        )
