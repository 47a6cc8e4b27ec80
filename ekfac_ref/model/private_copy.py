"""A copy of the caller's model that may be computed with, and its buffers."""

import copy
from typing import Any

from torch import nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import first_line


def private_copy(model: nn.Module) -> nn.Module:
    """A copy without backward hooks, whose forwards leave its buffers as they are.

    Backward hooks cannot change the function, and do not survive ``torch.func``. On a model that
    holds one module under two names ``functional_call`` leaves plain tensors behind (torch 2.13).
    """
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise ProblemError(
            f"model: it cannot be copied ({first_line(error)}); delete what its forward has cached "
            "as an attribute, and replace torch.nn.utils.weight_norm by the one in "
            "torch.nn.utils.parametrizations."
        ) from error
    for module in copied.modules():
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
    _keep_buffers(copied)
    return copied


def _keep_buffers(model: nn.Module) -> None:
    """Give every forward of the model fresh copies of its buffers, and put the real ones back: no
    call sees what another one wrote.

    By hooks on the model itself, since it is called in three ways (alone, under ``functional_call``
    and under ``vmap``), and ``torch.func`` lets no forward write to a tensor from outside.
    """
    owners = [module for module in model.modules() if module._buffers]
    if not owners:
        return
    real = [dict(module._buffers) for module in owners]

    def use_copies(module: nn.Module, args: Any) -> None:
        copies = {id(b): b.clone() for buffers in real for b in buffers.values() if b is not None}
        for owner, buffers in zip(owners, real, strict=True):
            owner._buffers.update({name: copies.get(id(b)) for name, b in buffers.items()})

    def use_real_ones(module: nn.Module, args: Any, output: Any) -> None:
        for owner, buffers in zip(owners, real, strict=True):
            owner._buffers.clear()
            owner._buffers.update(buffers)

    model.register_forward_pre_hook(use_copies, prepend=True)
    model.register_forward_hook(use_real_ones, always_call=True)
