"""No call of a copy sees what another one wrote into its modules: buffers, numbers, caches.

A forward may keep what it computes for calls to come: a mask, a table, the longest sequence so far.
Every call here begins as the caller's own next one would, and finds nothing of a sample that was
run before, of its graph, or of values that a transform has wrapped.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import is_
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError

# what every module has: hooks, which are no matter, and tensors and modules
_OF_TORCH = {*vars(nn.Module())} - {"training"}
_CONTAINERS = (OrderedDict, dict, list, set, deque)
# have attributes, and are no place where a forward keeps something
_NO_HOLDERS = (Tensor, torch.jit.ScriptModule, type, ModuleType, FunctionType, MethodType)
_Attributes = dict[str, Any]
_Members = list[Any]


@dataclass(frozen=True, eq=False)
class _Beginning:
    """What there was when a call began, the objects themselves.

    Attributes:
        makeups: of every module its class, and by name its Parameters, parts and buffers.
        held: {id of what holds others: it, its attributes, and what is in it as a container}.
        versions: of all parameters.
    """

    makeups: list[tuple[nn.Module, type[nn.Module], list[dict[str, Any]]]]
    held: dict[int, tuple[Any, _Attributes, _Members]]
    versions: list[int]


class _AsBefore:
    """Of all modules of one copy, which has it in a hook.

    Between calls they are not held here, or the copy would go by garbage collection alone, long
    after its memory is needed again.

    Attributes:
        changed: whether a call has left attributes that are not those before it.
    """

    def __init__(self, model: nn.Module) -> None:
        scripted = torch.jit.ScriptModule  # whose attributes are not of Python
        self._refs = [ref(m) for m in model.modules() if not isinstance(m, scripted)]
        self._parameters = [*model.parameters()]
        self._begun: list[_Beginning] = []  # a forward may call the whole model
        self._carried_on = False
        self.changed = False

    def begin(self, *call: Any) -> None:
        """With fresh copies of buffers, for ``torch.func`` lets no forward write to the others."""
        if self._carried_on:
            return
        modules = [module for one in self._refs if (module := one()) is not None]
        makeups = [(m, type(m), [dict(own) for own in _parts(m)]) for m in modules]
        versions = [p._version for p in self._parameters]
        self._begun.append(_Beginning(makeups, _held_by(modules), versions))
        copies: dict[int, Tensor] = {}
        for module in modules:
            for name, b in module._buffers.items():
                if b is not None:
                    if id(b) not in copies:
                        copies[id(b)] = b.clone()
                    module._buffers[name] = copies[id(b)]

    def end(self, *call: Any) -> None:
        """With the real ones, all Parameters, all parts, and all attributes, with what is in these.

        Where a Parameter was written into, which is not put back, attributes that may tell of that
        are left as well.
        """
        if self._carried_on or not self._begun:
            return
        before = self._begun.pop()
        for module, kind, (buffers, *others) in before.makeups:
            module._buffers.clear()
            module._buffers.update(buffers)
            parts = _parts(module)[1:]
            if not all(map(_same, others, parts)):
                for part, own in zip(parts, others, strict=True):
                    part.clear()
                    part.update(own)
                module.__class__ = kind
                self.changed = True
        changed = [one for one in before.held.values() if not _is_as_before(*one)]
        if not changed or before.versions != [p._version for p in self._parameters]:
            return
        self.changed = True
        for one in changed:
            _put_back(*one)

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


def _parts(module: nn.Module) -> list[dict[str, Any]]:
    """Buffers, Parameters and modules, which a forward that reparametrizes replaces for its time.

    One that fails in between has no time to put them back.
    """
    return [module._buffers, module._parameters, module._modules]


def _held_by(modules: list[nn.Module]) -> dict[int, tuple[Any, _Attributes, _Members]]:
    """What is in attributes, and in containers and objects among these, and in what is in them."""
    found = {}
    waiting: list[Any] = [*modules]
    while waiting:
        holder = waiting.pop()
        if id(holder) in found:
            continue
        attributes, members = ({}, [*holder]) if type(holder) is tuple else _inside(holder)
        if type(holder) is not tuple:
            found[id(holder)] = holder, attributes, members
        waiting += [x for x in (*attributes.values(), *members) if _holds(x.__class__)]
    return found


@cache
def _holds(kind: type) -> bool:
    """Whether things of this kind hold others, and ``deepcopy`` made them for the copy alone.

    Of what says by itself how it is copied, a logger say, they may be the caller's.
    """
    if issubclass(kind, _NO_HOLDERS):
        return False
    if kind in (*_CONTAINERS, defaultdict, tuple, SimpleNamespace) or issubclass(kind, nn.Module):
        return True
    reduced = (*_CONTAINERS, defaultdict, object)
    as_usual = kind.__reduce_ex__ is object.__reduce_ex__ and any(
        kind.__reduce__ is base.__reduce__ for base in reduced
    )
    return as_usual and "__dict__" in dir(kind) and not hasattr(kind, "__deepcopy__")


@cache
def _base(kind: type) -> Any:
    """The container that it is, whatever a class makes of it; None where it is none."""
    return next((base for base in _CONTAINERS if issubclass(kind, base)), None)


def _inside(holder: Any) -> tuple[_Attributes, _Members]:
    """Its attributes, and what is in it; of a dict, the keys before the values."""
    if isinstance(holder, nn.Module):
        own = {name: x for name, x in vars(holder).items() if name not in _OF_TORCH}
    else:
        own = dict(getattr(holder, "__dict__", ()))
    base = _base(holder.__class__)
    if base is None:
        return own, []
    members = [*base.__iter__(holder)]
    return own, [*members, *base.values(holder)] if issubclass(base, dict) else members


def _is_as_before(holder: Any, attributes: _Attributes, members: _Members) -> bool:
    own, inside = _inside(holder)
    return _same(attributes, own) and len(members) == len(inside) and all(map(is_, members, inside))


def _put_back(holder: Any, attributes: _Attributes, members: _Members) -> None:
    if hasattr(holder, "__dict__"):
        for name in _inside(holder)[0]:
            del vars(holder)[name]
        vars(holder).update(attributes)
    base = _base(holder.__class__)
    if base is None:
        return
    base.clear(holder)
    if issubclass(base, dict):
        half = len(members) // 2
        base.update(holder, zip(members[:half], members[half:], strict=True))
    else:
        (base.update if base is set else base.extend)(holder, members)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether the same objects are in them; equal tensors are not."""
    return one.keys() == other.keys() and all(map(is_, one.values(), other.values()))
