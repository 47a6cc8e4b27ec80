"""The notebook's EKFAC, its one wrong line, and the same algebra with that line put right.

The project began as a notebook: an EKFAC for a 2-9-1 network, checked against an empirical Fisher
of its own, and left unfinished because the two did not agree. Its steps, for one layer with inputs
h [N, d_in] and output gradients delta [N, d_out]::

    A = h^T h / N,  B = delta^T delta / N               their eigenvectors: UA, UB
    scalings = ((delta UB)^2)^T ((h UA)^2) / N          [d_out, d_in], flattened by rows
    matrix   = U diag(scalings) U^T                     with U = kron(UA, UB)
    Fisher   = mean_n vec(delta_n h_n^T) vec(...)^T     vec stacks rows

A row-stacking vec turns UB (x) UA into the basis delta_n h_n^T is expanded in; ``kron(UA, UB)`` is
the basis of a vec that stacks columns. Everything else in it is right.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import ekfac_ref as ek

D_IN, HIDDEN, D_OUT = 2, 9, 1
LAYERS = ("0", "2")


@dataclass(frozen=True)
class NotebookRow:
    """Errors of one layer, relative to the notebook's own Fisher; ``gap``: corrected to ours."""

    layer: str
    size: tuple[int, int]
    N: int
    notebook: float
    corrected: float
    reference: float
    gap: float


def experiment(N: int) -> list[NotebookRow]:
    """The notebook's cell at batch size N, for both layers, in float64."""
    torch.manual_seed(0)
    layer1 = nn.Linear(D_IN, HIDDEN, bias=False, dtype=torch.float64)
    layer2 = nn.Linear(HIDDEN, D_OUT, bias=False, dtype=torch.float64)
    model = nn.Sequential(layer1, nn.Sigmoid(), layer2)
    x = torch.randn(N, D_IN, dtype=torch.float64)
    y = torch.randn(N, D_OUT, dtype=torch.float64)
    loss = nn.MSELoss()

    problem = ek.Problem(model, [(x, y)], ek.likelihood_of(loss), fisher=ek.Empirical())
    scale = ek.loss_scale(loss, problem)  # (2 / D_OUT)^2 = 4: the gradient is 2 (f - y), not f - y
    ours = {name: E.scaled(scale).dense() for name, E in ek.ekfac(problem).items()}

    rows = []
    for name, (h, delta) in zip(LAYERS, inputs_and_gradients(model, x, y, loss), strict=True):
        F = row_fisher(h, delta)
        wrong = notebook_matrix(h, delta, columns_stacked)
        right = notebook_matrix(h, delta, rows_stacked)
        rows.append(
            NotebookRow(
                layer=name,
                size=(delta.shape[1], h.shape[1]),
                N=N,
                notebook=relative(wrong, F),
                corrected=relative(right, F),
                reference=relative(ours[name], F),
                gap=relative(ours[name], right),
            )
        )
    return rows


def inputs_and_gradients(
    model: nn.Sequential, x: Tensor, y: Tensor, loss: nn.Module
) -> list[tuple[Tensor, Tensor]]:
    """(h [N, d_in], delta [N, d_out]) of both layers, delta the gradient of one sample's loss.

    The loss is a mean over the batch, so its gradient is multiplied by N, as in the notebook.
    """
    layer1, sigmoid, layer2 = model
    s1 = layer1(x)
    h2 = sigmoid(s1)
    s2 = layer2(h2)
    delta1, delta2 = (len(x) * d for d in torch.autograd.grad(loss(s2, y), (s1, s2)))
    return [(x, delta1), (h2.detach(), delta2)]


def row_fisher(h: Tensor, delta: Tensor) -> Tensor:
    """F = (1/N) sum_n v_n v_n^T with v_n the rows of delta_n h_n^T, one after the other."""
    v = torch.einsum("no,ni->noi", delta, h).flatten(1)
    return v.T @ v / len(v)


def notebook_matrix(h: Tensor, delta: Tensor, basis: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """U diag(scalings) U^T, the notebook's approximation, with U = basis(UA, UB)."""
    N = len(h)
    UA = torch.linalg.eigh(h.T @ h / N).eigenvectors
    UB = torch.linalg.eigh(delta.T @ delta / N).eigenvectors
    scalings = ((delta @ UB) ** 2).T @ ((h @ UA) ** 2) / N
    U = basis(UA, UB)
    return U @ torch.diag(scalings.reshape(-1)) @ U.T


def columns_stacked(UA: Tensor, UB: Tensor) -> Tensor:
    """The notebook's line, ``UAkronUB = np.kron(UA, UB)``: the wrong one."""
    return torch.kron(UA, UB)


def rows_stacked(UA: Tensor, UB: Tensor) -> Tensor:
    """The line that belongs there, ``np.kron(UB, UA)``."""
    return torch.kron(UB, UA)


def relative(X: Tensor, Y: Tensor) -> float:
    """||X - Y|| / ||Y|| in the Frobenius norm."""
    return ((X - Y).norm() / Y.norm()).item()
