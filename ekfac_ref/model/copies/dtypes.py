"""A model and its inputs in another dtype, whose complex numbers keep their imaginary parts.

``nn.Module.to`` makes real numbers of them, and ``nn.Module.double`` leaves them as they are.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.question.inputs import on_tensors


def model_in(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model itself, whose floating parameters and buffers are in this dtype from now on."""
    return model._apply(lambda x: _in(x, dtype))


def inputs_in(inputs: Any, dtype: torch.dtype) -> Any:
    """A copy of inputs whose floating tensors are in this dtype."""
    return on_tensors(lambda x: _in(x, dtype), inputs)


def _in(x: Tensor, dtype: torch.dtype) -> Tensor:
    if x.is_complex():
        return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return x.to(dtype) if x.is_floating_point() else x
