"""Whether a Parameter is used, by whatever op: all that is asked where there are no factors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ekfac_ref.model.layers import Layer
from ekfac_ref.model.recording.recorder import Recorder
from ekfac_ref.model.refusals.misuses import check_inputs
from ekfac_ref.model.weights.linear_form import Call


class RecorderOfAnyUse(Recorder):
    """Keeps the names of the layers that are used, each in whatever way."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        super().__init__(layers)
        self._used: set[str] = set()

    @property
    def used(self) -> set[str]:
        """The names of the layers that are used, by whatever op."""
        return self._used

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        values = (*args, *(kwargs or {}).values())
        some = any(isinstance(x, Tensor) for x in tree_leaves(result))
        if some and not self._holders.only_looked_at(func, result, values):
            self._used |= {layer.name for layer in self._holders.among(values)}
        return result

    def _of_its_op(self, layer: Layer, call: Call, run: Callable[[], Tensor]) -> Tensor:
        check_inputs(layer, call)
        y = run()
        self.roundoff = max(self.roundoff, torch.finfo(y.dtype).eps)
        return y

    def _of_another_op(self, layer: Layer, func: Any, scaled: bool) -> None:
        """Autograd knows what it does."""
