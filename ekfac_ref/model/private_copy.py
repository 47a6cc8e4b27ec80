"""A forward that writes to its buffers writes to copies: no call sees what another one wrote."""

from typing import Any

from torch import nn


def keep_buffers(model: nn.Module) -> None:
    """Give every forward of the model fresh copies of its buffers, and put the real ones back.

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
