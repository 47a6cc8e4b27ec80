"""What a block is given to act on: a V shaped like [W | b], in its own dtype, on its own device."""

from torch import Tensor

from ekfac_ref.errors import ProblemError


def check_shape(V: Tensor, shape: tuple[int, int]) -> None:
    """Raise a ProblemError for a V of another shape than a block acts on."""
    if tuple(V.shape) != shape:
        raise ProblemError(
            f"V: shape {list(V.shape)}, but this block acts on [d_out, d_in] = {list(shape)}; "
            "bring gradients to [W | b] with Layer.to_matrix."
        )


def check_vector(V: Tensor, shape: tuple[int, int], own: Tensor) -> None:
    """Likewise, or for one in another dtype or on another device than the block's own numbers.

    Those of a model in half precision are float32 (``forward.py``).
    """
    check_shape(V, shape)
    if (V.dtype, V.device) != (own.dtype, own.device):
        raise ProblemError(
            f"V: {V.dtype} on {V.device}, but this block is {own.dtype} on {own.device}; pass "
            f"V.to({str(own.device)!r}, {own.dtype}), and turn the answer back."
        )
