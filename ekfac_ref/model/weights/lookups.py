r"""Rows of a table, however a forward asks for them, as F.embedding of their numbers.

F.embedding(ids, W),   W[ids],   W[ids, :],   torch.index_select(W, 0, ids)
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.model.weights.layer_kinds import ARGUMENTS_OF
from ekfac_ref.model.weights.linear_form import Call
from ekfac_ref.model.weights.views import as_stored

_INDEX_SELECT = (torch.index_select, Tensor.index_select)
_WHOLE_NUMBERS = (torch.int32, torch.int64)
_EVERYTHING = slice(None)


def call_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """The call as one of an op that layers have; None for another.

    A view that shows all of a Parameter as it is counts as the Parameter.

    Masks, which are no numbers of rows, and single rows, which are views, are no lookups.
    """
    if func in ARGUMENTS_OF:
        given = Call.bind(func, args, kwargs).arguments
        stored = {name: as_stored(given[name]) for name in ("weight", "bias") if name in given}
        return Call(func, given | stored)
    if not torch.is_grad_enabled():  # rows that are looked at, for a log say
        return None
    table, ids = _asked_for(func, args, kwargs)
    if not isinstance(ids, Tensor) or ids.dtype not in _WHOLE_NUMBERS or ids.dim() == 0:
        return None
    # the last row is -1, too; whatever is beyond the others has been refused by torch
    return Call(F.embedding, {"input": ids % len(table), "weight": table})


def _asked_for(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """(table, ids); of another call, no ids."""
    if func is Tensor.__getitem__:
        table, ids = args
        if isinstance(ids, tuple) and len(ids) == 2 and isinstance(ids[1], slice):
            return table, ids[0] if ids[1] == _EVERYTHING else None
        return args
    given = dict(zip(("input", "dim", "index"), args, strict=False)) | kwargs
    if func not in _INDEX_SELECT or given["dim"] not in (0, -2):
        return None, None
    return given["input"], given["index"]
