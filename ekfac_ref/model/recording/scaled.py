r"""Weights times numbers, as of equalized learning rates: op(x, c W) is op(c x, W).

So it is c x that W is applied to. Views of c W are those of W with the same strides.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ekfac_ref.model.recording.holders import Holders
from ekfac_ref.model.weights.layer_kinds import CONVOLUTIONS, TRANSPOSED_CONVOLUTIONS
from ekfac_ref.model.weights.linear_form import Call
from ekfac_ref.model.weights.products import as_linear
from ekfac_ref.model.weights.views import origin

_SCALES = (torch.mul, Tensor.mul, torch.div, Tensor.div, torch.neg, Tensor.neg)
_OF_MODULES = (F.linear, *CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Scaled:
    """The products of Parameters and numbers that a forward has made so far."""

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        # By id: the product, which is kept so that the id stays its own; W; and what made it.
        self._made: dict[int, tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]] = {}

    def note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> bool:
        """Whether y is a Parameter times a number of Python: from now on, one of its holders'."""
        if func not in _SCALES or kwargs or not isinstance(W := args[0], Tensor) or W.dim() < 2:
            return False
        if not y.requires_grad:  # a constant, whatever is multiplied with it
            return False
        if torch.is_autocast_enabled(W.device.type):  # which would round c x, and not c W
            return False
        numbers = args[1:]
        if not all(isinstance(c, (int, float)) for c in numbers) or y.stride() != W.stride():
            return False
        if not self._holders.name_also(y, W):
            return False
        self._made[id(y)] = y, W, lambda x: func(x, *numbers)
        return True

    def among(self, values: Iterable[Any]) -> bool:
        """Whether one of them is such a product, or a view of one."""
        return bool(self._made) and any(
            isinstance(x, Tensor) and id(origin(x)) in self._made for x in values
        )

    def moved_to_inputs(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Arguments:
        """The arguments, with W for c W and c x for x where that is no other number."""
        if not self._made:
            return args, kwargs
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        scaled = [x for x in tensors if id(origin(x)) in self._made]
        if not scaled:
            return args, kwargs
        (cW, *_), (_, W, times) = scaled, self._made[id(origin(scaled[0]))]
        at = cW.storage_offset() + W.storage_offset()
        view = W if cW is origin(cW) else W.as_strided(cW.shape, cW.stride(), at)
        if func in _OF_MODULES:
            given = Call.bind(func, args, kwargs).arguments
            if given["weight"] is not cW or self._holders.have(given["input"]):
                return args, kwargs
            inside = {**given, "input": times(given["input"]), "weight": view}
            return self.moved_to_inputs(func, (), inside)  # it may be scaled twice
        if len(tensors) != 2 or sum(map(self._holders.have, tensors)) != 1:
            return args, kwargs

        def moved(x: Any) -> Any:
            return view if x is cW else times(x) if isinstance(x, Tensor) else x

        both: Arguments = tree_map(moved, (args, kwargs))
        product = as_linear(func, *both, self._holders.have)
        return (args, kwargs) if product is None else self.moved_to_inputs(func, *both)
