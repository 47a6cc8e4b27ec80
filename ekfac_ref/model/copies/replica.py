"""A copy of a model that is given its values again, as long as nothing else of it differs.

Copying a small network costs more than a forward and backward pass of it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, NoneType
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.model.layers import Layer
from ekfac_ref.question.problem import dtype_of

_PLAIN = (NoneType, bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_SHARED = (type, BuiltinFunctionType)  # which a copy of the model has in common with it
_TENSORS = ("_parameters", "_buffers", "_modules")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class Replica:
    """A private copy of a model to compute with, and the layers of it that are meant.

    Attributes:
        original: the model that it is of, whose parameters no forward of it may reach.
        copy: has the modules, parameters and buffers of the original in the same order; it may have
            hooks of its own, and other modes of train and eval.
        layers: of the copy.
    """

    def __init__(self, original: nn.Module, copy: nn.Module, layers: tuple[Layer, ...]) -> None:
        self.original, self.copy, self.layers = original, copy, layers
        self._seen = _seen(original)
        self._of_copy = _seen(copy, _HOOKS)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Those of the layers, of the copy, by their names in ``model.named_parameters()``."""
        of_layers = {name for layer in self.layers for name in layer.parameters}
        return {name: p for name, p in self.copy.named_parameters() if name in of_layers}

    @property
    def dtype(self) -> torch.dtype:
        """Of the copy, as ``Problem.dtype``."""
        return dtype_of(self.copy)

    def follows(self, model: nn.Module) -> bool:
        """Give the copy the model's values; False where it has to be made anew.

        Which is where modules, their classes or attributes, or the memory of a tensor are others,
        in the copy after its forward, too; or where that cannot be told: with hooks, or attributes
        that are more than numbers, names and functions without a closure.
        """
        if self._seen is None or self._of_copy is None:
            return False
        if _seen(model) != self._seen or _seen(self.copy, _HOOKS) != self._of_copy:
            return False
        self.original = model
        with torch.no_grad():
            for (_, to), (_, value) in zip(_tensors(self.copy), _tensors(model), strict=True):
                to.copy_(value)
        return True


class _NotPlain(Exception):
    """What cannot be compared with what it was."""


def _seen(model: nn.Module, but: tuple[str, ...] = ()) -> list[Any] | None:
    """All that a copy has of the model but values; None where that cannot be told."""
    try:
        modules = [(type(m), _attributes(m, but)) for m in model.modules()]
        return [modules, [(name, *_place(t)) for name, t in _tensors(model)]]
    except (_NotPlain, RecursionError):
        return None


def _attributes(module: nn.Module, but: tuple[str, ...]) -> list[Any]:
    names = [n for n in vars(module) if n not in _TENSORS and n not in but and not _no_matter(n)]
    children = [name for name, _ in module._modules.items()]
    return [children, [(name, _frozen(vars(module)[name])) for name in names]]


def _no_matter(name: str) -> bool:
    """Whether it is of hooks that no forward calls."""
    return name.endswith("_hooks") and "forward" not in name


def _frozen(x: Any) -> Any:
    kind = type(x)
    if kind in _PLAIN:
        return kind, repr(x)  # 0.0 is not -0.0, nor 1
    if isinstance(x, _SHARED) or (kind is FunctionType and not x.__closure__ and not vars(x)):
        return x
    if kind in (list, tuple, torch.Size):
        return kind, tuple(map(_frozen, x))
    if kind in (set, frozenset):
        return kind, frozenset(map(_frozen, x))
    if kind in (dict, OrderedDict):
        return kind, [(_frozen(key), _frozen(value)) for key, value in x.items()]
    raise _NotPlain


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _place(t: Tensor) -> tuple[Any, ...]:
    if type(t) not in (nn.Parameter, Tensor) or t.layout is not torch.strided:
        raise _NotPlain
    return t.data_ptr(), t.shape, t.stride(), t.dtype, t.device, t.requires_grad
