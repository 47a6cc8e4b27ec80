"""What a position mask means to one layer: which positions count, and no gradient at the others."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.refusals.names import naming


def counted_positions(
    layer: Layer, uses: list[torch.Size], mask: Bool[Tensor, "N *positions"] | None
) -> Bool[Tensor, "N T"] | None:
    """The mask over all uses of a layer side by side; None where every position counts.

    ``uses`` has the axes of each for one sample. A layer whose samples are one position each is
    none of the mask's business.
    """
    if mask is None:
        return None
    if all(axes.numel() == 1 and axes[1:] != mask.shape[1:] for axes in uses):
        _check_clear(layer, uses, mask)
        return None
    for axes in uses:
        own, masked = _wide(axes), _wide(mask.shape[1:])
        if own != masked and own != [prod(masked)]:  # positions folded into one axis
            raise ProblemError(
                f"layer {layer.name!r}: its positions have axes {own}, but the mask has {masked} "
                "for each sample; return one boolean per position of this layer, or leave the "
                "layer out by naming the others in Problem(layers=...)."
            )
    return torch.cat([mask.flatten(1)] * len(uses), 1)


def check_masked(
    layers: Sequence[Layer],
    axes: Mapping[str, list[torch.Size]],
    mask: Bool[Tensor, "N *positions"] | None,
) -> None:
    """Raise a ProblemError for a layer whose positions the mask does not fit; it names the others.

    ``axes`` are those of every layer's uses, for one sample.
    """
    fit, misfit = [], None
    for layer in layers:
        try:
            counted_positions(layer, axes[layer.name], mask)
            fit.append(layer.name)
        except ProblemError as error:
            misfit = misfit or error
    if misfit is not None and fit:
        raise ProblemError(f"{str(misfit)[:-1]}; go on by {naming(tuple(fit))}.") from misfit
    if misfit is not None:
        raise misfit


def _check_clear(layer: Layer, uses: list[torch.Size], mask: Bool[Tensor, "N *positions"]) -> None:
    """Where a sample has one position, [N, d] may be positions that the mask is about, or none."""
    if uses and mask[0].numel() == 1 and not bool(mask.all()):
        raise ProblemError(
            f"layer {layer.name!r}: the mask leaves out the only position of a sample, and from "
            "[N, d] it cannot be told whether this layer sees positions or samples; leave out that "
            "sample, or call the layer on [N, 1, d] if it sees positions."
        )


PADDING = (
    "mask: the inputs have an attention_mask that is 0 somewhere, and padding counts among the "
    "positions that A is a mean over; leave it out with mask=lambda inputs: "
    "inputs['attention_mask'].bool(), or say that all count: mask=lambda inputs: None."
)


def has_padding(inputs: Any) -> bool:
    """Whether a tokenizer's mask says so."""
    mask = inputs.get("attention_mask") if isinstance(inputs, dict) else None
    return isinstance(mask, Tensor) and mask.dim() == 2 and not bool(mask.bool().all())


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
