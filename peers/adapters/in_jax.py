"""A torch network as a function in JAX: its graph as torch.fx traces it, operation by operation.

Parameters are {name: array}, weights with inputs before outputs, as JAX libraries have them: a
Linear's [in, out], a convolution's [*kernel, in, out]. Activations keep torch's axes; around a
convolution channels go last, and back. No value is in the function, so that networks of one
``structure`` are the same one, and are compiled once.
"""

import inspect
import operator
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


def array(x: Tensor) -> jax.Array:
    """A copy, on the side of JAX."""
    return jnp.asarray(x.detach().numpy().copy())


def tensor(x: jax.Array) -> Tensor:
    """A copy, on the side of torch."""
    return torch.from_numpy(np.asarray(x).copy())


def inputs_of(model: nn.Module, x: Any) -> dict[str, jax.Array]:
    """The inputs of a batch, by the names that forward has for them."""
    if not isinstance(x, dict):
        parts = x if isinstance(x, tuple) else (x,)
        x = dict(zip(inspect.signature(model.forward).parameters, parts, strict=False))
    return {name: array(one) for name, one in x.items()}


def turned(weight: Tensor) -> Tensor:
    """A weight [out, in, *kernel] as [*kernel, in, out]; a bias as it is."""
    return weight.permute(*range(2, weight.dim()), 1, 0) if weight.dim() > 1 else weight


def turned_back(weight: Tensor) -> Tensor:
    """The inverse of ``turned``."""
    n = weight.dim()
    return weight.permute(n - 1, n - 2, *range(n - 2)) if n > 1 else weight


def _linear(x: Any, weight: Any, bias: Any = None) -> Any:
    y = jnp.tensordot(x, weight, axes=1)
    return y if bias is None else y + bias


def _conv(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int = 1
) -> Any:
    names = "".join("DHW"[-(x.ndim - 2) :])
    axes = f"N{names}C", f"{names}IO", f"N{names}C"
    x = jnp.moveaxis(x, 1, -1)
    y = jax.lax.conv_general_dilated(
        x,
        weight,
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=axes,
        feature_group_count=groups,
    )
    if bias is not None:
        y = y + bias[(None,) * (y.ndim - 1)]
    return jnp.moveaxis(y, -1, 1)


_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _padding(layer: Any) -> list[tuple[int, int]]:
    """Before and behind every spatial axis; of an odd number, torch has the larger part behind."""
    if layer.padding == "same":
        sizes = zip(layer.kernel_size, layer.dilation, strict=True)
        around = [d * (k - 1) for k, d in sizes]
        return [(n // 2, n - n // 2) for n in around]
    return [(0, 0) if layer.padding == "valid" else (n, n) for n in layer.padding]


def _flatten(x: Any, first: int = 0, last: int = -1) -> Any:
    last = last % x.ndim
    return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])


_METHODS: dict[str, Callable[..., Any]] = {
    "mean": lambda x, axis, keepdim=False: x.mean(axis, keepdims=keepdim),
    "sum": lambda x, axis, keepdim=False: x.sum(axis, keepdims=keepdim),
    "transpose": jnp.swapaxes,
    "flatten": _flatten,
    "unflatten": lambda x, axis, sizes: x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :]),
    "tanh": jnp.tanh,
    "softmax": jax.nn.softmax,
    "clamp": lambda x, min: jnp.maximum(x, min),
    "mul_": jnp.multiply,
}
_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **{f: f for f in (operator.add, operator.mul, operator.truediv, operator.matmul)},
    operator.getitem: operator.getitem,
    getattr: lambda x, name: x.shape if name == "shape" else None,  # or its device
    torch.where: jnp.where,
    torch.ones: lambda shape, dtype, device: jnp.ones(shape, bool),
    torch.conv2d: lambda x, weight, bias, stride, padding, dilation, groups: _conv(
        x, weight, bias, stride, [(n, n) for n in padding], dilation, groups
    ),
    F.linear: _linear,
}
_MODULES: dict[type[nn.Module], Callable[..., Any]] = {
    nn.Tanh: jnp.tanh,
    nn.Sigmoid: jax.nn.sigmoid,
    nn.ReLU: lambda x: jnp.where(x > 0, x, 0),  # flat at 0, as in torch
    nn.Identity: lambda x: x,
    nn.Dropout: lambda x: x,
}


class Network(fx.Interpreter):
    """Runs the graph in JAX, for one dict of parameters and one of constants.

    NotImplementedError names what is not translated.

    Attributes:
        constants: {name: array} of what is not among the parameters, buffers included.
        structure: what two networks have in common that are the same function of all of these.
    """

    def __init__(self, model: nn.Module, inputs: Mapping[str, Any], names: Iterable[str]) -> None:
        """``inputs``: by the names that forward has for them; ``names``: of the parameters."""
        self.order = list(inspect.signature(model.forward).parameters)
        left = {name: None for name in self.order if name not in inputs}
        graph = fx.Tracer().trace(model, left or None)
        super().__init__(fx.GraphModule(model, graph))
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        self.names = {id(tensor): name for name, tensor in tensors.items()}
        chosen = list(names)
        self.constants = {
            name: array(turned(x) if isinstance(x, nn.Parameter) else x)
            for name, x in tensors.items()
            if name not in chosen
        }
        # Of tied parameters named_parameters has the first name alone.
        each = model.named_parameters(remove_duplicate=False)
        tied = tuple((name, self.names[id(p)]) for name, p in each)
        self.structure: Hashable = str(graph), repr(model), tied, tuple(chosen)

    def __call__(
        self,
        parameters: Mapping[str, jax.Array],
        constants: Mapping[str, jax.Array],
        inputs: Mapping[str, Any],
    ) -> Any:
        """The outputs."""
        self.values = {**parameters, **constants}
        return self.run(*(inputs.get(name) for name in self.order))

    def value(self, x: Tensor | None) -> Any:
        """A parameter or a buffer, as JAX has it."""
        return None if x is None else self.values[self.names[id(x)]]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self.value(self.fetch_attr(target))

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target not in _METHODS:
            raise NotImplementedError(f"no translation of the method {target}")
        return _METHODS[target](*args, **kwargs)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target.__name__ == "_assert_is_none":  # an argument that is left out
            return None
        if target not in _FUNCTIONS:
            raise NotImplementedError(f"no translation of the function {target}")
        return _FUNCTIONS[target](*args, **kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        layer: Any = self.fetch_attr(target)
        if isinstance(layer, nn.Linear):
            return _linear(args[0], self.value(layer.weight), self.value(layer.bias))
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return self._convolved(layer, args[0])
        if isinstance(layer, nn.Flatten):
            return _flatten(args[0], layer.start_dim, layer.end_dim)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not layer.affine:
            return self._normalised(layer, args[0])
        if type(layer) not in _MODULES:
            raise NotImplementedError(f"no translation of {type(layer).__name__}")
        return _MODULES[type(layer)](args[0])

    def _convolved(self, layer: Any, x: Any) -> Any:
        padding = _padding(layer)
        if layer.padding_mode != "zeros":
            x = jnp.pad(x, [(0, 0), (0, 0), *padding], _MODES[layer.padding_mode])
            padding = [(0, 0) for _ in padding]
        weight, bias = self.value(layer.weight), self.value(layer.bias)
        return _conv(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)

    def _normalised(self, layer: Any, x: Any) -> Any:
        """A BatchNorm in eval mode: numbers for every channel, which stand on axis 1."""
        mean, variance = (
            self.value(one).reshape(-1, *(1,) * (x.ndim - 2))
            for one in (layer.running_mean, layer.running_var)
        )
        return (x - mean) / jnp.sqrt(variance + layer.eps)
