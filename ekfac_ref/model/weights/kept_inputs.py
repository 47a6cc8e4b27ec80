"""The inputs of a call, kept as they are until the forward pass is over, and read then."""

from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Shaped
from torch import Tensor

from ekfac_ref.model.weights.layer_kinds import CONVOLUTIONS, MATRIX_PRODUCTS
from ekfac_ref.model.weights.linear_form import Call

_Read = Callable[[Call], Shaped[Tensor, "T groups d_in"]]


class KeptInputs:
    """What ``read`` makes of a call: its rows a_t, in memory of their own.

    Until they are asked for, the tensor that the forward gave is kept, as its graph keeps it: all
    layers' rows beside that would be as much again. Rows that the op has to compute are computed
    at once, and so are all if ``at_once``: for a forward that writes into what it gave a layer.
    """

    def __init__(self, call: Call, read: _Read, at_once: bool) -> None:
        x = call.arguments.get("input")
        self._given: Tensor | None = None
        self._rows: Tensor | None = None
        if at_once or x is None or not _of_the_input(call) or x.is_inference():
            self._rows = read(call)
        else:
            self._given, self._version = x.detach(), x._version
            self._call = replace(call, arguments={**call.arguments, "input": self._given})
            self._read = read

    @property
    def overwritten(self) -> bool:
        """Whether the forward wrote into the input, whose rows are no longer to be had."""
        return self._given is not None and self._given._version != self._version

    def with_bias(self, bias: Tensor) -> None:
        """To be told that the forward added the bias afterwards: the rows end in 1, not in 0."""
        if self._rows is None:
            self._call = replace(self._call, arguments={**self._call.arguments, "bias": bias})
        else:
            self._rows[..., -1] = 1

    def rows(self) -> Shaped[Tensor, "T groups d_in"]:
        """Copied from the input, or computed before."""
        assert not self.overwritten
        return self._read(self._call) if self._rows is None else self._rows


def _of_the_input(call: Call) -> bool:
    """Whether rows are copies of parts of the input, whenever they are read."""
    return call.op in MATRIX_PRODUCTS or call.op in CONVOLUTIONS
