"""No call of a copy sees what another one wrote into its modules: buffers, numbers, caches.

A forward may keep what it computes for calls to come: a mask, a table, the longest sequence so far.
Every call here begins as the caller's own next one would, and finds nothing of a sample that was
run before, of its graph, or of values that a transform has wrapped.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from operator import is_
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError

# what every module has: hooks, which are no matter, and tensors and modules
_OF_TORCH = {*vars(nn.Module())} - {"training"}
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)
# have attributes, and are no place where a forward keeps something
_NO_HOLDERS = (Tensor, torch.jit.ScriptModule, type, ModuleType, FunctionType, MethodType)
_Contents = dict[Any, Any] | list[Any]
_Held = dict[int, tuple[Any, _Contents]]  # {id of a holder: the holder, and what is in it}
_Makeup = tuple[type[nn.Module], dict[str, Any], dict[str, Any]]


class _AsBefore:
    """Of all modules of one copy.

    Attributes:
        changed: whether a call has left attributes that are not those before it.
    """

    def __init__(self, model: nn.Module) -> None:
        scripted = torch.jit.ScriptModule  # whose attributes are not of Python
        self._modules = [m for m in model.modules() if not isinstance(m, scripted)]
        self._buffers = [dict(module._buffers) for module in self._modules]
        self._held: _Held = {}
        self._makeup: list[_Makeup] = []
        self._parameters = [*model.parameters()]
        self._versions: list[int] = []
        self._carried_on = False
        self.changed = False

    def begin(self, *call: Any) -> None:
        """With fresh copies of buffers, for ``torch.func`` lets no forward write to the others."""
        if self._carried_on:
            return
        real = (b for buffers in self._buffers for b in buffers.values() if b is not None)
        copies = {id(b): b.clone() for b in real}
        self._held = _held_by(self._modules)
        self._makeup = [_makeup(module) for module in self._modules]
        self._versions = [p._version for p in self._parameters]
        for module, buffers in zip(self._modules, self._buffers, strict=True):
            module._buffers.update({name: copies.get(id(b)) for name, b in buffers.items()})

    def end(self, *call: Any) -> None:
        """With the real ones, all Parameters, all parts, and all attributes, with what is in these.

        Where a Parameter was written into, which is not put back, attributes that may tell of that
        are left as well.
        """
        if self._carried_on:
            return
        for module, buffers in zip(self._modules, self._buffers, strict=True):
            module._buffers.clear()
            module._buffers.update(buffers)
        for module, makeup in zip(self._modules, self._makeup, strict=True):
            self.changed |= _make_up_again(module, makeup)
        others = [
            (holder, contents)
            for holder, contents in self._held.values()
            if not _same(contents, _contents(holder))
        ]
        if not others or self._versions != [p._version for p in self._parameters]:
            return
        self.changed = True
        for holder, contents in others:
            _put_back(holder, contents)

    @contextmanager
    def carried_on(self) -> Iterator[None]:
        """Inside, each call begins as the one before has ended."""
        self.begin()
        self._carried_on = True
        try:
            yield
        finally:
            self._carried_on = False
            self.end()


def keep_as_before(model: nn.Module) -> None:
    """Let every forward of the model begin as the first one did.

    By hooks on the model itself, since it is called in three ways: alone, under ``functional_call``
    and under ``vmap``.
    """
    state = _AsBefore(model)
    model.register_forward_pre_hook(state.begin, prepend=True)
    model.register_forward_hook(state.end, always_call=True)


def check_settled(model: nn.Module, run: Callable[[], Tensor]) -> None:
    """Raise a ProblemError where a second call, which sees what the first one wrote, is another."""
    owners = (getattr(hook, "__self__", None) for hook in model._forward_pre_hooks.values())
    state = next((owner for owner in owners if isinstance(owner, _AsBefore)), None)
    if state is None or not state.changed:
        return
    with torch.no_grad(), state.carried_on():
        one, two = run(), run()
    rounding = torch.finfo(one.dtype).eps ** 0.5 if one.dtype.is_floating_point else 0.0
    if not torch.allclose(one, two, rounding, rounding, equal_nan=True):
        raise ProblemError(
            "model: two calls on the same inputs gave different outputs; make its forward "
            "deterministic: no random numbers, no state from call to call."
        )


def _makeup(module: nn.Module) -> _Makeup:
    """Its class, Parameters and parts, which a forward that reparametrizes replaces for its time.

    One that fails in between has no time to put them back.
    """
    return type(module), dict(module._parameters), dict(module._modules)


def _make_up_again(module: nn.Module, makeup: _Makeup) -> bool:
    """Whether there was reason to."""
    kind, parameters, parts = makeup
    if _same(parameters, module._parameters) and _same(parts, module._modules):
        return False
    for held, before in ((module._parameters, parameters), (module._modules, parts)):
        held.clear()
        held.update(before)
    module.__class__ = kind
    return True


def _held_by(modules: list[nn.Module]) -> _Held:
    """What is in attributes, and in containers and objects among these, and in what is in them."""
    found: _Held = {}
    waiting: list[Any] = [*modules]
    while waiting:
        holder = waiting.pop()
        if id(holder) in found:
            continue
        inside: Any = holder
        if type(holder) is not tuple:
            contents = _contents(holder)
            found[id(holder)] = holder, contents
            inside = contents.values() if isinstance(contents, dict) else contents
        waiting += [x for x in inside if _holds(x.__class__)]
    return found


@cache
def _holds(kind: type) -> bool:
    """Whether things of this kind hold others, and ``deepcopy`` made them for the copy alone.

    Of what says by itself how it is copied, a logger say, they may be the caller's.
    """
    if kind in (*_CONTAINERS, tuple, SimpleNamespace) or issubclass(kind, nn.Module):
        return not issubclass(kind, _NO_HOLDERS)
    as_usual = kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__
    has_attributes = "__dict__" in dir(kind) and not issubclass(kind, _NO_HOLDERS)
    return has_attributes and as_usual and not hasattr(kind, "__deepcopy__")


def _contents(holder: Any) -> _Contents:
    """Of a dict, or an object's attributes, or the members of a list."""
    if isinstance(holder, nn.Module):
        return {name: x for name, x in vars(holder).items() if name not in _OF_TORCH}
    if type(holder) not in _CONTAINERS:
        return dict(vars(holder))
    return dict(holder) if isinstance(holder, dict) else list(holder)


def _put_back(holder: Any, contents: _Contents) -> None:
    if isinstance(holder, nn.Module):
        for name in vars(holder).keys() - _OF_TORCH:
            del vars(holder)[name]
        vars(holder).update(contents)
        return
    held = holder if type(holder) in _CONTAINERS else vars(holder)
    held.clear()
    (held.extend if isinstance(held, (list, deque)) else held.update)(contents)


def _same(one: _Contents, other: _Contents) -> bool:
    """Whether the same objects are in them; equal tensors are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return False
        one, other = [*one.values()], [*other.values()]
    return len(one) == len(other) and all(map(is_, one, other))
