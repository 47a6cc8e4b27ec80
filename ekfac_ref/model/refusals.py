"""Why a model has no per-sample gradients here: an error for each, with the way out."""

from math import isfinite

import torch
from torch import Tensor, nn
from torch.func import vmap

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import batchable, call, forward_one
from ekfac_ref.model.rewritten import Rewriting
from ekfac_ref.question.batches import Batch


def check_model(model: nn.Module) -> None:
    """Raise a ProblemError for what can be seen without data: modules in train mode, bad values."""
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


def check_samples_apart(model: nn.Module, batch: Batch) -> None:
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
