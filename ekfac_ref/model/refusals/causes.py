"""From what torch says about a model's forward to what the model's owner can do."""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ekfac_ref.errors import ProblemError, first_line, of_memory

_DERIVATIVES = (
    "its forward takes derivatives (torch.func.grad, jvp, torch.autograd.grad ...); pass the "
    "network that it differentiates as the model, with its outputs as they are"
)
_CHECKPOINTING = (
    "its forward recomputes activations (torch.utils.checkpoint); switch that off, which changes "
    "no number: call the function itself in place of checkpoint(function, ...), "
    "model.gradient_checkpointing_disable() in Hugging Face's models"
)
_SHARED = (
    "its forward writes per-sample values into a tensor that all samples share (a buffer, a "
    "preallocated result); create that tensor from the inputs"
)
# What torch says: the way out.
_SAID = {
    ".item()": "its forward looks at values (.item(), bool(tensor), Python control flow on data), "
    "which differ from sample to sample; write it with torch.where or masks",
    "data-dependent": "its forward has data-dependent control flow; write it with torch.where",
    "dynamic shape": "its forward makes shapes that depend on values (nonzero, boolean indexing); "
    "write it with torch.where or masks",
    **dict.fromkeys(("inplace arithmetic", "because there exists a Tensor"), _SHARED),
    "by an inplace operation": "its forward overwrites a tensor that the gradient needs, so that "
    "loss.backward() fails as well; replace x.op_() and x[...] = y there by ops that return a new "
    "tensor",
    "Tensor.requires_grad_()": _DERIVATIVES,
    "saved tensor hooks": "its forward works on what autograd saves (save_on_cpu, "
    "saved_tensors_hooks); switch that off, which changes no number",
    "autograd.Function": "its forward uses a torch.autograd.Function that torch.func cannot batch; "
    "give it a setup_context and generate_vmap_rule = True",
    "data pointer of Tensor": "its forward leaves torch (x.numpy(), x.tolist()); write that with "
    "operations on tensors",
    "vmap support": "its forward uses a torch.autograd.Function that torch.func cannot batch; "
    "give it a setup_context and generate_vmap_rule = True",
}
# Where in torch the error was raised, or passed through.
_CHECKPOINT = "torch/utils/checkpoint.py"
_DIFFERENTIATING = (
    "torch/autograd/__init__.py",
    "torch/autograd/functional.py",
    "torch/autograd/forward_ad.py",
    "torch/_functorch/eager_transforms.py",
)
_BACKWARD = "loss.backward() fails on it; make that work first"
# Below the frame of this function, frames are those of the model's own forward.
_CALL = ("ekfac_ref/model/forward.py", "call")


@contextmanager
def explained(otherwise: str = _BACKWARD) -> Iterator[None]:
    """Around a model's forward or gradients: what torch says as what can be done.

    ``otherwise``: what to say where nothing better is known.
    """
    try:
        yield
    except IndexError as error:
        raise ProblemError(
            f"model: an index is out of range ({first_line(error)}); the ids in the inputs have to "
            "be below the num_embeddings of the Embedding that looks them up."
        ) from error
    except RuntimeError as error:
        if of_memory(error):
            raise
        advice = way_out(error) or otherwise
        raise ProblemError(
            f"model: per-sample gradients are not defined: {advice}. (torch: {first_line(error)})"
        ) from error


class NotBatchable(Exception):
    """``torch.vmap`` cannot run a forward, for this reason."""


@contextmanager
def batchable() -> Iterator[None]:
    """Around what is run by ``torch.vmap``: raise NotBatchable for what torch says.

    That an op is run sample by sample inside of it is no concern of the caller's.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop because")
            yield
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, ProblemError) or of_memory(error):
            raise
        raise NotBatchable(way_out(error) or first_line(error).rstrip(".")) from error


def way_out(error: BaseException) -> str | None:
    """What the owner of a model can do about an error of its forward, where that is known."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame.filename.replace("\\", "/") for frame in frames]
    if any(file.endswith(_CHECKPOINT) for file in files):
        return _CHECKPOINTING
    for file in _within_forward(files, [frame.name for frame in frames]):
        if file.endswith(_DIFFERENTIATING):
            return _DERIVATIVES
    said = first_line(error)
    return next((advice for sign, advice in _SAID.items() if sign in said), None)


def _within_forward(files: list[str], names: list[str]) -> list[str]:
    called = (k for k, name in enumerate(names) if name == _CALL[1] and files[k].endswith(_CALL[0]))
    return files[next(called, len(files)) :]
