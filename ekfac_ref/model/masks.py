"""What a position mask means to one layer: which positions count, and no gradient at the others."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.uses import Use


def counted_positions(
    layer: Layer, calls: list[Use], mask: Bool[Tensor, "N *positions"] | None
) -> Bool[Tensor, "N T"] | None:
    """The mask over all uses of a layer side by side; None where every position counts.

    A layer whose samples are one position each is none of the mask's business.
    """
    if mask is None or all(
        use.axes.numel() == 1 and use.axes[1:] != mask.shape[1:] for use in calls
    ):
        return None
    for use in calls:
        if _wide(use.axes) != _wide(mask.shape[1:]):
            raise ProblemError(
                f"layer {layer.name!r}: its positions have axes {list(use.axes[1:])}, but the mask "
                f"has {list(mask.shape[1:])} for each sample; return one boolean per position of "
                "this layer, or leave the layer out by naming the others in Problem(layers=...)."
            )
    return torch.cat([mask.flatten(1)] * len(calls), 1)


def _wide(axes: torch.Size) -> list[int]:
    return [size for size in axes if size != 1]


def check_silent(
    layer: Layer, g: Float[Tensor, "N C T d_out"], counted: Bool[Tensor, "N T"]
) -> None:
    """A position that does not count must not be able to move the loss."""
    largest = (g.abs().amax((1, 3)) * ~counted).amax()
    if largest > torch.finfo(g.dtype).eps * g.abs().amax():
        raise ProblemError(
            f"layer {layer.name!r}: a position that the mask leaves out carries gradient (up to "
            f"{largest:.2g}), so it does count; make the model ignore it, or correct the mask."
        )
