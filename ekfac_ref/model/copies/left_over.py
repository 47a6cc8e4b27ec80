"""Tensors that a call has left behind in a model with their graph, which no copy can have.

A forward may keep its last output, a state or an attention for whoever wants to look at them. Most
write them anew in every call, and never read them. What one does read belongs to the graph of a
call that is over: gradients through it would be of that call, or none.
"""

from typing import Any

from torch import Tensor
from torch._C import DisableTorchFunctionSubclass
from torch.overrides import TorchFunctionMode

from ekfac_ref.errors import ProblemError

_LOOKS = (Tensor.size, Tensor.dim, Tensor.numel)


class LeftOver(Tensor):
    """May be there, be looked at from outside, and be replaced; not computed with."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        with DisableTorchFunctionSubclass():
            if func in _LOOKS or func.__name__ == "__get__":
                found = func(*args, **(kwargs or {}))
                if not isinstance(found, Tensor):
                    return found
            shapes = [list(x.shape) for x in (*args, None) if isinstance(x, LeftOver)]
        raise ProblemError(
            f"model: its forward reads a tensor, of shape {(*shapes, '...')[0]}, that an earlier "
            "call has left behind in it with its graph, to which gradients of this call do not "
            "reach; delete what its forward has cached as an attribute, or let it compute that in "
            "every call."
        )


class WithLeftOvers(TorchFunctionMode):
    """While it is active, ``copy.deepcopy`` makes LeftOvers of tensors that have a graph."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and args[0].grad_fn is not None:
            return args[0].detach().as_subclass(LeftOver)
        return func(*args, **(kwargs or {}))
