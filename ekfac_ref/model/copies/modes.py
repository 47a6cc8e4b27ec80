"""In which modes of train and eval a model is meant: its own, or eval whatever its own are."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ekfac_ref.model.copies.private_copy import copy_of
from ekfac_ref.model.refusals.beforehand import check_modes, check_modes_in_eval


@dataclass(frozen=True)
class Modes:
    """How a model is copied, and what has to be true of it before.

    Attributes:
        check: raises a ProblemError for a model that has no per-sample gradients in these modes.
        copied: a copy in these modes.
    """

    check: Callable[[nn.Module], None]
    copied: Callable[[nn.Module], nn.Module]


def _in_eval(model: nn.Module) -> nn.Module:
    copied = copy_of(model)
    # An exported program is never in train mode, and refuses to be told.
    return copied.eval() if any(module.training for module in copied.modules()) else copied


ITS_OWN = Modes(check_modes, copy_of)
EVAL = Modes(check_modes_in_eval, _in_eval)
