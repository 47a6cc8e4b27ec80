"""One sample through the model, in a form that ``torch.vmap`` can batch, with errors that teach."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ekfac_ref.errors import ProblemError

_REASONS = {
    ".item()": "its forward looks at values (.item(), bool(tensor), Python control flow on data), "
    "which differ from sample to sample; write it with torch.where or masks",
    "data-dependent": "its forward has data-dependent control flow; write it with torch.where",
    "dynamic shape": "its forward makes shapes that depend on values (nonzero, boolean indexing); "
    "write it with torch.where or masks",
    "randomness": "its forward draws random numbers (dropout that ignores eval()?); make it "
    "deterministic, call model.eval()",
    "inplace arithmetic": "its forward writes per-sample values into a tensor that all samples "
    "share (a buffer, a preallocated result); create that tensor from the inputs",
}


class _BilinearAsEinsum(TorchFunctionMode):
    """torch has no batching rule for ``bilinear``, and loops with a warning."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not F.bilinear:
            return func(*args, **(kwargs or {}))
        return _bilinear(*args, **(kwargs or {}))


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return y if bias is None else y + bias


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """The model on inputs of any of the three structures."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def forward_one(model: Callable[..., Any], inputs: Any) -> Tensor:
    """f_n, shape ``*out``, from the inputs of one sample, without a sample axis."""
    f = call(model, tree_map(lambda x: x[None], inputs))
    if not isinstance(f, Tensor):
        raise ProblemError(
            f"model: it returned a {type(f).__name__}; it has to return one tensor of outputs, "
            "wrap it in a module that picks the right one."
        )
    if f.dim() == 0 or f.shape[0] != 1:
        raise ProblemError(
            f"model: for one sample it returned shape {list(f.shape)}, but axis 0 has to be the "
            "samples, here 1; keep the samples apart until the end (no mean over the batch)."
        )
    return f[0]


@contextmanager
def batchable() -> Iterator[None]:
    """Around ``vmap`` of a model: what torch cannot batch is rewritten, or explained."""
    try:
        with _BilinearAsEinsum():
            yield
    except RuntimeError as error:
        said = str(error).strip().partition("\n")[0]
        known = (advice for sign, advice in _REASONS.items() if sign in said)
        advice = next(known, "torch.vmap cannot run its forward one sample at a time")
        raise ProblemError(
            f"model: per-sample gradients are not defined: {advice}. (torch: {said})"
        ) from error


def in_algebra_dtype(x: Tensor) -> Tensor:
    """float32 for half precisions, which have no eigendecomposition; others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
