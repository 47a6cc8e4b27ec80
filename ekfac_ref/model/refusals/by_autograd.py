"""The gradient of a batch's outputs for the parameters of the layers, by plain autograd."""

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.model.forward import call, right_norms
from ekfac_ref.model.refusals.causes import explained
from ekfac_ref.question.batches import Batch


def by_autograd(replica: Replica, batch: Batch, v: Float[Tensor, "N *out"]) -> dict[str, Tensor]:
    """The gradient of sum_n <f_n, v_n> for every layer's parameters, by their names."""
    with torch.enable_grad(), explained():
        return _gradients(replica, call(replica.copy, batch.inputs), v)


def by_graph(
    replica: Replica, f: Float[Tensor, "N *out"], v: Float[Tensor, "N *out"]
) -> dict[str, Tensor] | None:
    """That gradient, by the graph of a forward pass that was, which is not used up.

    None where it cannot be gone through, once more perhaps.
    """
    try:
        return _gradients(replica, f, v)
    except ProblemError:
        raise
    except Exception:  # a backward written by hand may raise anything
        return None


def _gradients(replica: Replica, f: Tensor, v: Tensor) -> dict[str, Tensor]:
    own = replica.parameters
    originals = {n: p for n, p in replica.original.named_parameters() if p.requires_grad}
    asked = [*own.values(), *originals.values()]
    found: tuple[Tensor | None, ...] = (None,) * len(asked)
    if f.requires_grad:
        with right_norms():
            found = torch.autograd.grad(f, asked, v, allow_unused=True, retain_graph=True)
    for name, gradient in zip(originals, found[len(own) :], strict=True):
        if gradient is not None:
            raise ProblemError(
                f"parameter {name!r}: the forward of a copy of the model reaches that of the "
                "model itself, by a global name or an object that a copy shares; use it through "
                "self in the forward."
            )
    return {
        name: p.new_zeros(p.shape) if gradient is None else gradient
        for (name, p), gradient in zip(own.items(), found[: len(own)], strict=True)
    }
