"""A copy of the caller's model that may be computed with, and its functions."""

from contextlib import suppress
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from ekfac_ref.errors import ProblemError, first_line, of_memory
from ekfac_ref.model.copies.as_before import keep_as_before
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.copies.left_over import WithLeftOvers
from ekfac_ref.model.outputs import Output, return_one_tensor


def made_private(copied: nn.Module, output: Output | None) -> nn.Module:
    """The copy, whose forwards now leave its modules as they are, and return one tensor."""
    return_one_tensor(copied, output)
    keep_as_before(copied)
    return copied


def copy_of(model: nn.Module) -> nn.Module:
    """A copy without backward hooks, whose functions and hooks see it and not the original.

    Backward hooks cannot change the function, and do not survive ``torch.func``. On a model that
    holds one module under two names ``functional_call`` leaves plain tensors behind (torch 2.13).
    """
    memo: dict[int, Any] = {}
    try:
        with WithLeftOvers():
            copied = deep_copy(model, memo)
    except Exception as error:
        if of_memory(error):
            raise
        raise ProblemError(
            f"model: it cannot be copied ({first_line(error)}); delete what its forward has cached "
            "as an attribute, a lock or a file that it holds."
        ) from error
    for module in copied.modules():
        module._backward_hooks.clear()
        module._backward_pre_hooks.clear()
        places: list[Any] = [module.__dict__, module._forward_hooks, module._forward_pre_hooks]
        for attributes in places:
            for name, value in attributes.items():
                attributes[name] = _of_the_copy(value, memo)
    return copied


def _of_the_copy(value: Any, memo: dict[int, Any]) -> Any:
    """A function that remembers parts of the model, as one that remembers those of the copy.

    ``deepcopy`` leaves functions alone, hooks and compiled ones too, and with them the original
    model in their closures. memo: {id of an original: its copy}.
    """
    if isinstance(value, FunctionType):
        value = value.__dict__.get("_torchdynamo_orig_callable", value)
    if isinstance(value, (nn.Module, Tensor)):
        return memo.get(id(value), value)
    if isinstance(value, MethodType):
        return MethodType(value.__func__, memo.get(id(value.__self__), value.__self__))
    if not isinstance(value, FunctionType) or not value.__closure__:
        return value
    if id(value) not in memo:
        cells = tuple(memo.setdefault(id(cell), CellType()) for cell in value.__closure__)
        code, names = value.__code__, value.__globals__
        copied = FunctionType(code, names, value.__name__, value.__defaults__, cells)
        copied.__kwdefaults__ = value.__kwdefaults__
        copied.__dict__.update(value.__dict__)
        memo[id(value)] = copied  # before its closure is filled, which it may be in itself
        for new, old in zip(cells, value.__closure__, strict=True):
            with suppress(ValueError):  # raised by a cell that nothing was put into as yet
                new.cell_contents = _of_the_copy(old.cell_contents, memo)
    return memo[id(value)]
