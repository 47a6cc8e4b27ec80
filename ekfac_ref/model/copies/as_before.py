"""No call of a copy sees what another one wrote into its modules: buffers, numbers, caches.

A forward may keep what it computes for calls to come: a mask, a table, the longest sequence so far.
Every call here begins as the caller's own next one would, and finds nothing of a sample that was
run before, of its graph, or of values that a transform has wrapped.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError

# what every module has: hooks, which are no matter, and tensors and modules
_OF_TORCH = {*vars(nn.Module())} - {"training"}
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque)
_Contents = list[Any] | None  # of what is no container, None
_Attributes = dict[str, tuple[Any, _Contents]]
_Makeup = tuple[type[nn.Module], list[tuple[str, Any]], list[tuple[str, Any]]]


class _AsBefore:
    """Of all modules of one copy.

    Attributes:
        changed: whether a call has left attributes that are not those before it.
    """

    def __init__(self, model: nn.Module) -> None:
        scripted = torch.jit.ScriptModule  # whose attributes are not of Python
        self._modules = [m for m in model.modules() if not isinstance(m, scripted)]
        self._buffers = [dict(module._buffers) for module in self._modules]
        self._attributes: list[_Attributes] = []
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
        self._attributes = [_attributes(module) for module in self._modules]
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
        pairs = zip(self._modules, self._attributes, strict=True)
        others = [pair for pair in pairs if not _is_as_before(*pair)]
        if not others or self._versions != [p._version for p in self._parameters]:
            return
        self.changed = True
        for module, attributes in others:
            _put_back(module, attributes)

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
    return type(module), [*module._parameters.items()], [*module._modules.items()]


def _make_up_again(module: nn.Module, makeup: _Makeup) -> bool:
    """Whether there was reason to."""
    kind, parameters, parts = makeup
    if _same(parameters, [*module._parameters.items()]) and _same(
        parts, [*module._modules.items()]
    ):
        return False
    for held, before in ((module._parameters, parameters), (module._modules, parts)):
        held.clear()
        held.update(before)
    module.__class__ = kind
    return True


def _attributes(module: nn.Module) -> _Attributes:
    own = vars(module).items()
    return {name: (value, _contents(value)) for name, value in own if name not in _OF_TORCH}


def _contents(value: Any) -> _Contents:
    if type(value) not in _CONTAINERS:
        return None
    return [*(value.items() if isinstance(value, dict) else value)]


def _is_as_before(module: nn.Module, attributes: _Attributes) -> bool:
    own = vars(module)
    if any(own.get(name, module) is not value for name, (value, _) in attributes.items()):
        return False
    if own.keys() - _OF_TORCH != attributes.keys():
        return False
    containers = ((x, contents) for x, contents in attributes.values() if contents is not None)
    return all(_same(contents, _contents(x) or []) for x, contents in containers)


def _put_back(module: nn.Module, attributes: _Attributes) -> None:
    own = vars(module)
    for name in own.keys() - _OF_TORCH - attributes.keys():
        del own[name]
    for name, (value, contents) in attributes.items():
        own[name] = value
        if contents is not None:
            value.clear()
            (value.extend if isinstance(value, (list, deque)) else value.update)(contents)


def _same(one: list[Any], other: list[Any]) -> bool:
    """Whether the same objects are in them, or the same pairs of these; equal tensors are not."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(
        x is y or (type(x) is type(y) is tuple and [*map(id, x)] == [*map(id, y)]) for x, y in pairs
    )
