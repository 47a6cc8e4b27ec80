"""What a model is called on: tensors, which are cut into samples, and constants, which are not."""

from collections.abc import Callable, Mapping
from enum import Enum
from types import FunctionType, NoneType
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only, tree_structure

# Passed on as they are, to one sample as to all.
CONSTANTS = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, Enum, FunctionType)


def cuttable(inputs: Any) -> Any:
    """Inputs in the form in which they are cut and passed on.

    A list is a tuple, a mapping of any type (a tokenizer's) a dict. So are mappings within, unless
    torch's own trees know their type.
    """
    if isinstance(inputs, Mapping):
        inputs = dict(inputs)
    elif isinstance(inputs, list):
        inputs = tuple(inputs)
    return tree_map(lambda x: cuttable(x) if isinstance(x, Mapping) else x, inputs)


def on_tensors(change: Callable[[Tensor], Any], inputs: Any) -> Any:
    """New inputs, with every tensor changed and every constant as it was."""
    return tree_map_only(Tensor, change, inputs)


def tensors_of(inputs: Any) -> list[Tensor]:
    """All tensors among the inputs, in their order."""
    return [x for x in tree_leaves(inputs) if isinstance(x, Tensor)]


def form_of(inputs: Any) -> tuple[object, ...]:
    """Names, dtypes, shapes of one sample, constants: whatever a forward may depend on but values.

    It can be hashed.
    """
    each = (
        (x.dtype, x.shape[1:]) if isinstance(x, Tensor) else (type(x), x)
        for x in tree_leaves(inputs)
    )
    return (str(tree_structure(inputs)), *each)


def misfits(inputs: Any) -> list[tuple[Any, str]]:
    """(what is neither a tensor that can be cut nor a constant, what to do about it).

    A number or a text in a list or tuple within the inputs may be one of many, one for each sample;
    that is not guessed.
    """
    found: list[tuple[Any, str]] = []
    packed = isinstance(inputs, PackedSequence)
    within = inputs if isinstance(inputs, (tuple, dict)) and not packed else (inputs,)

    def is_sequence(x: Any) -> bool:
        return isinstance(x, (list, tuple)) and x is not within

    for x in tree_leaves(within, is_leaf=is_sequence):
        apart = is_sequence(x) and not isinstance(x, PackedSequence)
        parts = tree_leaves(x) if apart else [x]
        for part in parts:
            constant = isinstance(part, CONSTANTS if part is x else NoneType)
            if not (constant or part is None) and (way_out := no_plain_tensor(part)):
                found.append((part, way_out))
    return found


def no_plain_tensor(x: Any) -> str | None:
    """What to do about it, or None for a tensor that can be cut into samples."""
    if isinstance(x, Tensor):
        if x.is_nested:
            return "pad it: torch.nested.to_padded_tensor(x, 0.0), and mask the rest in the model"
        if x.layout is not torch.strided:
            return "convert it with x.to_dense()"
        return "convert it with x.dequantize()" if x.is_quantized else None
    if isinstance(x, (str, bytes)):
        return (
            "give the model numbers, such as the tokenizer's ids (return_tensors='pt'), and leave "
            "lists of names and texts out"
        )
    if isinstance(x, PackedSequence):
        return "pad it: torch.nn.utils.rnn.pad_packed_sequence(x, batch_first=True)[0]"
    if isinstance(x, (*CONSTANTS, list)) or hasattr(x, "__array__"):
        return (
            "make a list of numbers or an array a tensor with torch.as_tensor; a tokenizer does so "
            "by itself with return_tensors='pt'"
        )
    return "take the tensors out of it, and pass them as a tuple or a dict"
