"""Fisher columns s_nc of one sample in output space, from derivatives of the loss itself."""

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
Columns = Callable[[Loss, Tensor, Tensor], Tensor]


def gradient_columns(loss: Loss, f: Tensor, y: Tensor) -> Tensor:
    """The empirical Fisher's single column, grad_f l(f, y) at the label: [1, *f.shape]."""
    f = f.detach().requires_grad_()
    return torch.autograd.grad(loss(f, y), f)[0][None]


def hessian_columns(loss: Loss, f: Tensor, y: Tensor) -> Tensor:
    """A square root of the Hessian of l in f, which is the exact Fisher: [K, *f.shape].

    True of these likelihoods because f is their natural parameter. Negative eigenvalues can only
    be rounding, and are clipped.
    """
    f = f.detach().requires_grad_()
    gradient = torch.autograd.grad(loss(f, y), f, create_graph=True)[0].flatten()
    rows = [torch.autograd.grad(entry, f, retain_graph=True)[0].flatten() for entry in gradient]
    eigenvalues, vectors = torch.linalg.eigh(torch.stack(rows).double())
    root = vectors @ torch.diag(eigenvalues.clamp(min=0).sqrt()) @ vectors.T
    return root.T.reshape(-1, *f.shape).to(f.dtype)
