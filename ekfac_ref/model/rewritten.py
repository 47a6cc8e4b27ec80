"""Ops that ``torch.vmap`` cannot batch, or does wrongly, by ops that it can."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import decompositions
from torch.overrides import TorchFunctionMode


class Rewriting(TorchFunctionMode):
    """While it is active, the same function by other ops."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return rewritten(func)(*args, **(kwargs or {}))


def rewritten(func: Callable[..., Any]) -> Callable[..., Any]:
    """What computes the function by ops that ``torch.vmap`` can batch; most are that already."""
    return _REWRITTEN.get(func, func)


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return y if bias is None else y + bias


def _prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Of whose gradient torch 2.13 takes the axis of samples for that of columns."""
    by_channel = weight.reshape(-1, *[1] * (input.dim() - 2)) if input.dim() > 1 else weight
    return torch.where(input > 0, input, by_channel * input)


def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "") -> Tensor:
    """Of whose gradient torch 2.13 reads beyond the distances, for several columns."""
    return torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


def _lstm(
    x: Tensor, start: tuple[Tensor, Tensor], weights: list[Tensor], has_biases: bool, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """torch's own decomposition, which would choose oneDNN on a CPU, without that choice."""
    projected = start[0].shape[2] != start[1].shape[2]
    params = decompositions.gather_params(weights, has_biases, projected)
    states = list(zip(*start, strict=True))
    layer = decompositions.one_layer_lstm
    arguments: Any = (x, states, params, has_biases, *options, layer)
    y, ends = decompositions._rnn_helper(*arguments)
    h, c = zip(*ends, strict=True)
    return y, torch.stack(h), torch.stack(c)


_REWRITTEN: dict[Any, Callable[..., Any]] = {
    F.bilinear: _bilinear,
    torch.prelu: _prelu,
    torch.cdist: _cdist,
    torch.gru: decompositions.gru_impl,
    torch.lstm: _lstm,
    torch.rnn_tanh: decompositions.rnn_tanh_input,
    torch.rnn_relu: decompositions.rnn_relu_input,
}
