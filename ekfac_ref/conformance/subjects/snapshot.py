"""What a problem and the process look like, as plain values: to see what an answer changed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ekfac_ref.model.random_state import untouched

_Facts = dict[str, Any]
_TURNS = count()


def differences(before: _Facts, after: _Facts) -> list[str]:
    """One line for every fact that is not what it was.

    Versions are no matter: a value that was changed and put back can be seen in them alone.
    """
    gone = [f"{key}: gone" for key in before if key not in after]
    new = [f"{key}: new" for key in after if key not in before]
    kept = [key for key in before if key in after and not key.endswith(" version")]
    return gone + new + [f"{key}: changed" for key in kept if before[key] != after[key]]


@contextmanager
def watched(changes: list[str], who: str, model: nn.Module, *data: Any) -> Iterator[None]:
    """Adds a line for everything that the block changes, also where it ends in an exception."""
    before = snapshot(model, *data)
    try:
        yield
    finally:
        changes += [f"{who}, {line}" for line in differences(before, snapshot(model, *data))]


@contextmanager
def own_states() -> Iterator[None]:
    """The block has random states that no other had; the caller's are put back.

    Whoever sets them to a constant would find them there from the second time on, and be noticed
    once; and whose answer depends on them has another one to the same question.
    """
    with untouched():
        seed = crc32(b"%d" % next(_TURNS))  # no small number, which others seed by
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield


def snapshot(model: nn.Module, *data: Any) -> _Facts:
    """Model, data, random states and modes as plain values: names, numbers, bytes, identities."""
    facts: _Facts = {
        "torch rng": _bytes(torch.get_rng_state()),
        "numpy rng": _numpy_state(),
        "python rng": random.getstate(),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "default dtype": torch.get_default_dtype(),
    }
    for name, module in model.named_modules(remove_duplicate=False):
        facts |= {f"module {name!r} {key}": value for key, value in _of_module(module).items()}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        facts |= {f"parameter {name!r} {k}": v for k, v in _of_tensor(parameter).items()}
    for name, buffer in model.named_buffers(remove_duplicate=False):
        facts |= {f"buffer {name!r} {key}": value for key, value in _of_tensor(buffer).items()}
    for number, leaf in enumerate(x for x in tree_leaves(data) if isinstance(x, Tensor)):
        facts |= {f"data {number} {key}": value for key, value in _of_tensor(leaf).items()}
    return facts


def _numpy_state() -> tuple[object, ...]:
    """Bytes for the array, which compares by elements."""
    return tuple(x.tobytes() if isinstance(x, np.ndarray) else x for x in np.random.get_state())


def _of_module(module: nn.Module) -> _Facts:
    hooks = {
        key: [(number, id(hook)) for number, hook in value.items()]
        for key, value in vars(module).items()
        if key.endswith("_hooks") and isinstance(value, dict)
    }
    attributes = sorted(vars(module).items())
    plain = {k: v for k, v in attributes if isinstance(v, (bool, int, float, str, type(None)))}
    return {
        "object": id(module),
        "hooks": hooks,
        "attributes": [key for key, _ in attributes],
        "values": plain,  # ``training`` among them
        "children": {name: id(child) for name, child in module._modules.items()},
        "not persistent": sorted(module._non_persistent_buffers_set),
    }


def _of_tensor(x: Tensor) -> _Facts:
    if nn.parameter.is_lazy(x):
        return {"object": (id(x), type(x)), "requires_grad": x.requires_grad}
    try:
        place = x.data_ptr()
    except RuntimeError:  # what a transform of torch.func has left behind, a tensor of no memory
        return {"object": (id(x), type(x))}
    return {
        "object": (id(x), type(x)),
        "storage": (place, x.stride(), x.dtype, x.device, tuple(x.shape)),
        "version": None if x.is_inference() else x._version,
        "values": _bytes(x),
        "requires_grad": x.requires_grad,
        "grad": None if not x.is_leaf or x.grad is None else (id(x.grad), _bytes(x.grad)),
        "hooks": [len(getattr(x, name, None) or ()) for name in _TENSOR_HOOKS],
    }


_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def _bytes(x: Tensor) -> bytes:
    if x.is_meta:
        return b""
    # A clone: where an axis has size 1, what calls itself contiguous may have any stride.
    x = x.detach().cpu().clone(memory_format=torch.contiguous_format)
    return x.view(-1).view(torch.uint8).numpy().tobytes()
