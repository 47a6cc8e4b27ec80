"""One sample through the model, in a form that ``torch.vmap`` can batch, with errors that teach."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
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


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """The model on a copy of the inputs (it may write to them), of any of the three structures."""
    inputs = tree_map(torch.clone, inputs)
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def with_parameters(model: nn.Module, values: dict[str, Tensor]) -> Callable[..., Any]:
    """The model as a function that takes these values instead of its Parameters' own.

    A Parameter goes by its name in ``model.named_parameters()`` and is replaced wherever it is
    used. Each owner is told once: ``functional_call`` given one module under two names leaves
    plain tensors behind in it (torch 2.13).
    """
    given = {id(p): values[name] for name, p in model.named_parameters() if name in values}
    once = {
        f"{owner}.{name}".lstrip("."): given[id(p)]
        for owner, module in model.named_modules()
        for name, p in module._parameters.items()
        if id(p) in given
    }

    def call_with_values(*args: Tensor, **kwargs: Tensor) -> Any:
        return functional_call(model, once, args, kwargs, tie_weights=False)

    return call_with_values


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
            "samples, here 1; keep the samples apart until the end (no mean over the batch, no "
            "squeeze() of all axes)."
        )
    return f[0]


@contextmanager
def batchable() -> Iterator[None]:
    """Around ``vmap`` of a model: turn what torch says into what the model's owner can do."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except IndexError as error:
        raise ProblemError(
            f"model: an index is out of range ({first_line(error)}); the ids in the inputs have to "
            "be below the num_embeddings of the Embedding that looks them up."
        ) from error
    except RuntimeError as error:
        said = first_line(error)
        known = (advice for sign, advice in _REASONS.items() if sign in said)
        advice = next(known, "torch.vmap cannot run its forward one sample at a time, change that")
        raise ProblemError(
            f"model: per-sample gradients are not defined: {advice}. (torch: {said})"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, without the advice that torch adds in further lines."""
    return f"{type(error).__name__}: {error}".strip().partition("\n")[0]


def in_algebra_dtype(x: Tensor) -> Tensor:
    """float32 for half precisions, which have no eigendecomposition; others as they are."""
    return x.to(algebra_dtype(x.dtype))


def algebra_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the matrices of a model and data in this dtype."""
    return torch.promote_types(dtype, torch.float32)
