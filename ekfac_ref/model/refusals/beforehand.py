"""What can be seen of a model without data: modules in train mode, parameters without values."""

import warnings

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.finite import all_finite


def check_model(model: nn.Module) -> None:
    """Raise a ProblemError for what can be seen without data, whatever the modules' modes."""
    for device in {parameter.device.type for parameter in model.parameters()} - {"meta"}:
        if torch.is_autocast_enabled(device):
            raise ProblemError(
                "autocast: it is on, and the curvature is that of the model in its own dtype; call "
                f"outside of it, or within torch.autocast({device!r}, enabled=False)."
            )
    if isinstance(model, torch.jit.ScriptModule):
        raise ProblemError(
            "model: it is TorchScript, whose forward cannot be differentiated sample by sample; "
            "pass the model as it was before torch.jit.script or torch.jit.trace."
        )
    for module in model.modules():
        if isinstance(module, nn.DataParallel):
            raise ProblemError(
                f"model: {type(module).__name__} runs copies of what it wraps; pass that, "
                "model.module, which has the same parameters."
            )
    check_parameters(model)


def check_of_one_process(model: nn.Module, why: str) -> None:
    """Raise a ProblemError, which says why, for a model that is trained by several at once."""
    for module in model.modules():
        if (kind := type(module).__name__) in _OF_SEVERAL:
            raise ProblemError(f"model: {why.format(kind=kind)}")


_OF_SEVERAL = ("DistributedDataParallel", "FullyShardedDataParallel")


def warn_of_backward_hooks(model: nn.Module) -> None:
    """A UserWarning for hooks that may change gradients, and are not called on a copy."""
    names = [f"layer {name!r}" for name, module in model.named_modules() if _backward(module)]
    names += [f"parameter {name!r}" for name, p in model.named_parameters() if p._backward_hooks]
    if names:
        warnings.warn(
            f"{names[0]}: its backward hook (register_hook, register_full_backward_hook) is not "
            "called here: gradients and curvature are those of the forward as it is, whatever the "
            f"hook makes of them{f'; so with {len(names) - 1} more' if len(names) > 1 else ''}.",
            stacklevel=2,
        )


def _backward(module: nn.Module) -> bool:
    return bool(module._backward_hooks or module._backward_pre_hooks)


def check_modes(model: nn.Module) -> None:
    """Raise a ProblemError for modules that mix samples, or are random, in the mode they are in."""
    for name, module in model.named_modules():
        _check_samples_unmixed(name, module, module.training)
        if module.training and _draws(module):
            raise ProblemError(
                f"layer {name!r}: a {type(module).__name__} in train mode draws a new network for "
                "every sample; call model.eval()."
            )


def check_modes_in_eval(model: nn.Module) -> None:
    """Raise a ProblemError for modules that mix samples in eval mode."""
    for name, module in model.named_modules():
        _check_samples_unmixed(name, module, training=False)


def _check_samples_unmixed(name: str, module: nn.Module, training: bool) -> None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
        training or module.running_mean is None
    ):
        raise ProblemError(
            f"layer {name!r}: a {type(module).__name__} in train mode (or without running "
            "statistics) mixes the samples of a batch, so there are no per-sample gradients; call "
            "model.eval() on a model that tracks running statistics."
        )


def check_parameters(model: nn.Module) -> None:
    """Raise a ProblemError for a parameter without finite values."""
    for name, parameter in model.named_parameters():
        if wrong := _what_is_wrong(parameter):
            raise ProblemError(f"parameter {name!r}: {wrong}.")


def other_in_train_mode(model: nn.Module) -> list[str]:
    """Names of the modules in train mode that compute something else there than in eval mode."""
    return [
        name
        for name, module in model.named_modules()
        if module.training
        and (isinstance(module, nn.modules.batchnorm._BatchNorm) or _draws(module))
    ]


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
    if parameter.layout is not torch.strided:
        return f"its layout is {parameter.layout}; make it dense with .to_dense()"
    if not all_finite(parameter):
        return "NaN or infinity in its values; restore the last good ones"
    return None
