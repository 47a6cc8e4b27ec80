"""Together and one by one, the samples of a batch must have the same outputs."""

import torch
from torch import Tensor, nn
from torch.func import vmap

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import call, forward_one
from ekfac_ref.model.refusals.causes import batchable
from ekfac_ref.model.rewritten import Rewriting
from ekfac_ref.question.batches import Batch


def check_samples_apart(model: nn.Module, batch: Batch) -> None:
    """Together and one by one must be the same function; rounding alone may differ."""
    few = batch.samples(0, min(4, batch.size))
    if isinstance(f := call(model, few.inputs), Tensor) and f.is_inference():
        raise ProblemError(
            "model: its forward runs under torch.inference_mode, so its outputs have no gradient; "
            "take that out of the forward, and put it around calls of the model."
        )
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
