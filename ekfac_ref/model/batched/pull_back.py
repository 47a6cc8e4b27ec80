"""From columns at the outputs to gradients of what the outputs were made of."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.model.forward import right_norms
from ekfac_ref.model.refusals.causes import explained


def pull_back(
    f: Float[Tensor, "N *out"],
    leaves: Sequence[Tensor],
    S: Float[Tensor, "N C *out"],
) -> list[Float[Tensor, "C ..."]]:
    """For every column c and every leaf, the gradient of sum_n <f_n, s_nc>, zeros included.

    All columns by one batched backward pass, or one after the other where torch cannot batch it
    (checkpointing, a function whose backward is written by hand). Uses the graph up.
    """
    columns = S.movedim(1, 0)
    found: list[Tensor | None] = [None] * len(leaves)
    if f.requires_grad:
        with explained(), right_norms():
            found = _gradients(f, leaves, columns)
    return [
        leaf.new_zeros(()).expand(len(columns), *leaf.shape) if g is None else g
        for leaf, g in zip(leaves, found, strict=True)
    ]


def _gradients(
    f: Tensor, leaves: Sequence[Tensor], columns: Float[Tensor, "C N *out"]
) -> list[Tensor | None]:
    if len(columns) == 1:  # what a batch of one column would cost is a few percent of EKFAC
        plain = torch.autograd.grad(f, leaves, columns[0], allow_unused=True)
        return [None if g is None else g[None] for g in plain]
    try:
        batched = torch.autograd.grad(
            f, leaves, columns, is_grads_batched=True, allow_unused=True, retain_graph=True
        )
        return list(batched)
    except RuntimeError:  # of memory too: a column by itself needs less
        pass
    one_by_one = [
        torch.autograd.grad(f, leaves, s, allow_unused=True, retain_graph=True) for s in columns
    ]
    by_leaf = zip(*one_by_one, strict=True)
    return [None if gs[0] is None else torch.stack(gs) for gs in by_leaf]
