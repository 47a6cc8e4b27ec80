"""A problem opened for computing: a private copy of its model, its layers, its checked batches."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor, nn
from torch.func import vmap

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import batchable, call, first_line, forward_one
from ekfac_ref.model.layers import Layer, find_layers
from ekfac_ref.model.masks import counted_positions
from ekfac_ref.model.private_copy import keep_buffers
from ekfac_ref.model.random_state import RandomState, generators, put_back, take, untouched
from ekfac_ref.model.rewritten import Rewriting
from ekfac_ref.model.uses import Use, uses
from ekfac_ref.question.batches import Batch, read
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True, eq=False)
class Session:
    """Everything the model half needs.

    Attributes:
        problem: as the caller posed it.
        model: a copy of the caller's; ``functional_call`` on a model that holds one module under
            two names would leave plain tensors behind (torch 2.13), and forwards may write buffers.
        layers: of the copy.
        start: the random numbers at which every pass begins, so that they all see the same data.
        seen: what the model does to batches of each form, as far as it has met them.
    """

    problem: Problem
    model: nn.Module
    layers: tuple[Layer, ...]
    start: RandomState
    seen: dict[object, "Seen"] = field(default_factory=dict)

    def batches(self) -> Iterator[tuple[Batch, "Seen"]]:
        """One pass over the data, with what the model does to batches of each one's form.

        The model is tried on every new form of inputs, and its samples are compared together and
        apart in the first batch of that form that has two.
        """
        put_back(self.start)
        for batch in read(self.problem):
            known = self.seen.get(batch.form)
            if known is None or known.compared < min(batch.size, 2):
                with untouched():
                    self.seen[batch.form] = self._try(batch)
            yield batch, self.seen[batch.form]

    def _try(self, batch: Batch) -> "Seen":
        one = batch.samples(0, 1)
        seen = uses(self.model, self.layers, one)
        for layer in self.layers:
            counted_positions(layer, seen[layer.name], batch.mask)
        _check_samples_apart(self.model, batch)
        return Seen(seen, self.columns(call(self.model, one.inputs), one).shape[1], batch.size)

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


@dataclass(frozen=True, eq=False)
class Seen:
    """What the model does to every batch of one form.

    Attributes:
        uses: of every layer, on one sample.
        columns: C.
        compared: size of the batch whose samples were compared together and apart.
    """

    uses: dict[str, list[Use]]
    columns: int
    compared: int


def open_session(problem: Problem) -> Session:
    """Copy the model and check what can be checked without data.

    A session draws random numbers, if the data does; whoever opens one puts them back.
    """
    start = take(*generators(problem.batches))
    _check_model(problem.model)
    find_layers(problem.model, problem.layers)  # shared memory is not shared by the copy
    model = _copy(problem.model)
    for module in model.modules():
        # Backward hooks cannot change the function, and do not survive torch.func.
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    keep_buffers(model)
    layers = find_layers(model, problem.layers)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return Session(problem, model, layers, start)


def _copy(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:
        raise ProblemError(
            f"model: it cannot be copied ({first_line(error)}); delete what its forward has cached "
            "as an attribute, and replace torch.nn.utils.weight_norm by the one in "
            "torch.nn.utils.parametrizations."
        ) from error


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
        if module.training and _draws(module):
            raise ProblemError(
                f"layer {name!r}: a {kind} in train mode draws a new network for every sample; "
                "call model.eval()."
            )
    for name, parameter in model.named_parameters():
        if wrong := _what_is_wrong(parameter):
            raise ProblemError(f"parameter {name!r}: {wrong}.")


def _draws(module: nn.Module) -> bool:
    """Whether the module is random in train mode: dropout, RReLU, an RNN or attention with any."""
    p = getattr(module, "p" if isinstance(module, nn.modules.dropout._DropoutNd) else "dropout", 0)
    return isinstance(module, nn.RReLU) or (isinstance(p, (int, float)) and p > 0)


def _what_is_wrong(parameter: Tensor) -> str | None:
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        return "it has no shape yet; call the model once on a batch"
    if parameter.is_meta:
        return (
            "it is on the meta device, without values; load them after model.to_empty(device=...)"
        )
    if parameter.is_complex():
        return "complex, for which no Fisher is defined here; split it into real parameters"
    if parameter.numel() and not all(map(isfinite, torch.aminmax(parameter.detach()))):
        return "NaN or infinity in its values; restore the last good ones"
    return None


def _check_samples_apart(model: nn.Module, batch: Batch) -> None:
    """Together and one by one must be the same function; rounding alone may differ."""
    few = batch.samples(0, min(4, batch.size))
    with batchable(), Rewriting():
        alone = vmap(lambda x: forward_one(model, x))(few.inputs)
    together = call(model, few.inputs)
    again = call(model, few.inputs)
    if not alone.dtype.is_floating_point:
        raise ProblemError(
            f"model: its outputs are {alone.dtype}; return real numbers that move with the "
            "parameters, the logits before argmax, say."
        )
    if together.shape != alone.shape:
        raise ProblemError(
            f"model: {few.size} samples gave outputs of shape {list(together.shape)} together and "
            f"{list(alone.shape)} one by one; axis 0 of the output has to be the samples."
        )
    rounding = torch.finfo(alone.dtype).eps ** 0.5 * together.abs().amax().clamp(min=1e-2)
    if (together - again).abs().amax() > rounding:
        raise ProblemError(
            "model: two calls on the same inputs gave different outputs; make its forward "
            "deterministic: no random numbers, no state from call to call."
        )
    if (together - alone).abs().amax() > rounding:
        raise ProblemError(
            "model: the output of a sample depends on the other samples of its batch, so "
            "per-sample gradients are not defined; remove what mixes them (batch statistics, "
            "x - x.mean(0), a reshape across axis 0)."
        )
