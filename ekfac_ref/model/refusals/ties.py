"""Weights that several modules share, and for which there is no one matrix [W | b] between them."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.linear.layer_kinds import op_of


def no_one_matrix(owners: Sequence[tuple[str, nn.Module]]) -> str | None:
    """Why the modules that one weight is in, by name, are no one layer; None if they are."""
    name, first = owners[0]
    for other_name, other in owners:
        if op_of(other) is not op_of(first) or groups_of(other) != groups_of(first):
            return (
                f"layer {name!r}: its weight is tied to {other_name!r}, a {type(other).__name__}, "
                f"which reads it in another orientation (or other groups) than {name!r}, a "
                f"{type(first).__name__}"
            )
    if len({bias for _, module in owners if (bias := trainable_bias(module)) is not None}) > 1:
        return (
            f"layer {name!r}: its weight is tied across {[n for n, _ in owners]}, but their biases "
            "differ, so there is no one matrix [W | b]; tie the biases too, or drop them"
        )
    return None


def groups_of(module: nn.Module) -> int:
    """Of a grouped convolution; 1 for other modules."""
    return int(getattr(module, "groups", 1))


def trainable_bias(module: nn.Module) -> Tensor | None:
    """The module's bias, unless it is none, frozen, or computed from other parameters."""
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, nn.Parameter) and bias.requires_grad else None


def check_no_shared_memory(model: nn.Module, ours: set[str]) -> None:
    """Raise a ProblemError for Parameters over the same memory, one of which is named in ``ours``.

    Such (say, one a view of the other's transpose) are a tie that autograd does not see.
    """
    dense = ((n, p) for n, p in model.named_parameters() if p.layout is torch.strided)
    spans = [(n, _span(p)) for n, p in dense if p.numel()]
    for (one, (start, end)), (two, (other_start, other_end)) in combinations(spans, 2):
        if (one in ours or two in ours) and start < other_end and other_start < end:
            raise ProblemError(
                f"parameter {two!r} shares its memory with {one!r} without being the same "
                "Parameter, so they are tied in a way that gradients cannot see (two orientations, "
                "say); give it memory of its own with .clone()."
            )


def _span(p: Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(p.shape, p.stride(), strict=True))
    start = p.data_ptr()
    return start, start + (last + 1) * p.element_size()
