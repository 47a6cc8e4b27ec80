"""``copy.deepcopy`` of a model, in about half the time."""

import copy
from collections import OrderedDict
from typing import Any

from torch import nn


def deep_copy(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A copy of everything in the model; ``memo`` is ``deepcopy``'s, {id of an original: its copy}.

    Most of what a module holds are dicts of hooks with nothing in them, which ``deepcopy`` takes
    apart one by one; here it is told beforehand what their copies are.
    """
    memo = {} if memo is None else memo
    held_by_modules = (x for module in model.modules() for x in vars(module).values())
    empty = [x for x in held_by_modules if type(x) in (OrderedDict, set) and not x]
    memo.update({id(x): type(x)() for x in empty if not getattr(x, "__dict__", None)})
    return copy.deepcopy(model, memo)
