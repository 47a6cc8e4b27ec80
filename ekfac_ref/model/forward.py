"""A model called as it is written, on a batch or on one sample in a form that vmap can batch."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, wraps
from threading import RLock
from typing import Any
from unittest.mock import patch

import torch
import torch.backends.mha
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import get_overridable_functions
from torch.utils.checkpoint import CheckpointFunction

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.inputs import on_tensors

# at a time changes torch, or the last of two to leave would put back what the other had changed
_ONE_THREAD = RLock()


def call(model: Callable[..., Any], inputs: Any) -> Any:
    """The model on a copy of the inputs (it may write to them), of any of the three structures."""
    inputs = on_tensors(torch.clone, inputs)
    with right_norms(), _as_written(), patch.object(CheckpointFunction, "apply", _run):
        if isinstance(inputs, dict):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def _run(function: Callable[..., Any], preserve_random_state: bool, *inputs: Any) -> Any:
    """In place of reentrant checkpointing, under which ``torch.autograd.grad`` does not work."""
    return function(*inputs)


@contextmanager
def right_norms() -> Iterator[None]:
    """Batch and instance norms whose gradients are right.

    On the CPU those of torch 2.13 are not, of one sample whose input is a transposed view, of
    tokens say, and the gradient of its output is none, or the other way round: channels are taken
    for places. An instance norm takes N samples for one of N times the channels, so that several
    are as wrong where places come first. A norm knows no places, and on one axis of them there is
    one order only. Around backward passes, too, in which a checkpointed forward is run again.
    """
    with _ONE_THREAD:
        of_torch = torch.batch_norm, torch.instance_norm
        torch.batch_norm, torch.instance_norm = map(_on_one_axis, of_torch)
        try:
            yield
        finally:
            torch.batch_norm, torch.instance_norm = of_torch


@cache
def _on_one_axis(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The norm, with all axes of places as one, where torch takes channels for some."""
    get_overridable_functions()  # a list that torch makes once, which is not to have these in it
    of_several = norm.__name__ == "instance_norm"

    @wraps(norm)
    def right(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dim() < 4 or not (of_several or len(x) == 1):
            return norm(x, *args, **kwargs)
        return norm(x.flatten(2), *args, **kwargs).reshape(x.shape)

    return right


@contextmanager
def _as_written() -> Iterator[None]:
    """Nothing is compiled, and no kernel of torch's stands in for a whole Transformer layer.

    A graph that ``torch.compile`` traces contains whatever is active at that time, a shift that was
    added to a layer's output, say; and the ops of a graph or a fused kernel are no layer's own.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _eager():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _eager() -> AbstractContextManager[Any]:
    """What ``torch.compiler.set_stance("force_eager")`` is.

    That in itself takes a reference to None away at every call (torch 2.6), until there is none
    left, and Python aborts.
    """
    if "torch._dynamo" not in sys.modules:  # nothing can have been compiled
        return nullcontext()
    from torch._dynamo import eval_frame

    return patch.object(eval_frame, "_stance", eval_frame.DynamoStance("force_eager"))


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
    return one_output(model, on_tensors(lambda x: x[None], inputs))[0]


def one_output(model: Callable[..., Any], inputs: Any) -> Tensor:
    """f, shape [1, *out], of a batch of one sample; a ProblemError for anything else."""
    f: Tensor = call(model, inputs)
    check_one_output(f)
    return f


def check_one_output(f: Tensor) -> None:
    """Raise a ProblemError where what came of one sample is not that of one."""
    if f.dim() == 0 or f.shape[0] != 1:
        raise ProblemError(
            f"model: for one sample it returned shape {list(f.shape)}, but axis 0 has to be the "
            "samples, here 1; keep the samples apart until the end (no mean over the batch, no "
            "squeeze() of all axes)."
        )


def in_algebra_dtype(x: Tensor) -> Tensor:
    """float32 for half precisions, which have no eigendecomposition; others as they are."""
    return x.to(algebra_dtype(x.dtype))


def algebra_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the matrices of a model and data in this dtype."""
    return torch.promote_types(dtype, torch.float32)
