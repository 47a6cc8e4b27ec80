"""What comes out of a forward and has no gradient, or none that is a number."""

from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.finite import all_finite


def check_outputs(f: Tensor) -> None:
    """Raise a ProblemError for outputs that have no gradient."""
    if f.is_inference():
        raise ProblemError(
            "model: its forward runs under torch.inference_mode, so its outputs have no gradient; "
            "take that out of the forward, and put it around calls of the model."
        )
    if not f.dtype.is_floating_point:
        raise ProblemError(
            f"model: its outputs are {f.dtype}; return real numbers that move with the "
            "parameters, the logits before argmax, say."
        )
    if not f.numel():
        raise ProblemError(
            f"model: its outputs are empty, of shape {list(f.shape)}; leave out batches "
            "whose samples have no positions or classes."
        )


def check_finite(f: Tensor, sample: int) -> None:
    """Raise a ProblemError for NaN or infinity; ``sample`` is the number of the first."""
    if not all_finite(f):
        raise ProblemError(
            f"model: NaN or infinity in its outputs at sample {sample}; look for a "
            "division by zero or an overflow in its forward, and rule out classes by "
            "torch.finfo(dtype).min in place of -inf."
        )
