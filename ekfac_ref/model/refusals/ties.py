"""Weights that several modules share, and for which there is no one matrix [W | b] between them."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.weights.owned import Owned


def no_one_matrix(owners: Sequence[Owned]) -> str | None:
    """Why the modules that one weight is in are no one layer; None if they are."""
    first = owners[0]
    for other in owners:
        if other.op is not first.op or other.groups != first.groups:
            return (
                f"layer {first.name!r}: its weight is tied to {other.name!r}, a {other.kind}, "
                f"which reads it in another orientation (or other groups) than {first.name!r}, a "
                f"{first.kind}"
            )
    if len({(bias, one.rows[1]) for one in owners if (bias := one.trainable_bias) is not None}) > 1:
        return (
            f"layer {first.name!r}: its weight is tied across {[one.name for one in owners]}, but "
            "their biases differ, so there is no one matrix [W | b]; tie the biases too, or drop "
            "them"
        )
    return None


def check_no_shared_memory(model: nn.Module, ours: set[str]) -> None:
    """Raise a ProblemError for Parameters over the same memory, one of which is named in ``ours``.

    Such (say, one a view of the other's transpose) are a tie that autograd does not see.
    """
    dense = ((n, p) for n, p in model.named_parameters() if p.layout is torch.strided)
    spans = [(n, _span(p)) for n, p in dense if p.numel()]
    in_order = sorted(span for _, span in spans)
    if all(end <= start for (_, end), (start, _) in pairwise(in_order)):  # of many, there are pairs
        return
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
