"""The notebook's EKFAC against the empirical Fisher of its own, and with its wrong line put right.

The project began as a notebook: an EKFAC for a 2-9-1 network, left unfinished because it did not
agree with the Fisher beside it. Its class is ``ekfac_ref.examples.notebook.NotebookEKFAC``. Both
flatten a gradient [d_out, d_in] by rows, and in that order the eigenvectors of B (x) A are
kron(UB, UA); the notebook has kron(UA, UB), which belongs to columns. Everything else is right.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.examples.notebook import NotebookEKFAC
from studies.looks import relative


@dataclass(frozen=True)
class NotebookRow:
    """One layer of the notebook's network at one batch size.

    Attributes:
        layer: name of the module.
        size: (d_out, d_in).
        N: samples, in one batch.
        notebook: error ||X - F|| / ||F|| of the notebook's matrix, F its own Fisher.
        corrected: that of its matrix with kron(UB, UA).
        reference: that of ``ekfac_ref.ekfac``.
        gap: error of ``ekfac_ref.ekfac`` relative to the corrected matrix.
    """

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
    float64 = torch.float64
    first = nn.Linear(2, 9, bias=False, dtype=float64)
    model = nn.Sequential(first, nn.Sigmoid(), nn.Linear(9, 1, bias=False, dtype=float64))
    x, y = torch.randn(N, 2, dtype=float64), torch.randn(N, 1, dtype=float64)
    loss = nn.MSELoss()

    problem = ek.Problem(model, [(x, y)], ek.likelihood_of(loss), fisher=ek.Empirical())
    scale = ek.loss_scale(loss, problem)  # 2^2 = 4: the gradient is 2 (f - y), not f - y
    ours = {name: E.scaled(scale).dense() for name, E in ek.ekfac(problem).items()}

    notebook = NotebookEKFAC(model)
    loss(model(x), y).backward()
    notebook.step()
    rows = []
    wrong, stored = notebook.approximate_Fisher_matrix(), notebook.stored_items.values()
    for (name, mine), matrix, layer in zip(ours.items(), wrong, stored, strict=True):
        F = row_fisher(layer["input"], layer["grad_wrt_output"])
        U = torch.kron(layer["UB"], layer["UA"])
        corrected = U @ torch.diag(layer["scalings"].reshape(-1)) @ U.T
        d_out, d_in = layer["scalings"].shape
        rows.append(
            NotebookRow(
                layer=name,
                size=(d_out, d_in),
                N=N,
                notebook=relative(matrix, F),
                corrected=relative(corrected, F),
                reference=relative(mine, F),
                gap=relative(mine, corrected),
            )
        )
    return rows


def row_fisher(h: Tensor, delta: Tensor) -> Tensor:
    """F = (1/N) sum_n v_n v_n^T with v_n the rows of delta_n h_n^T, one after the other.

    ``h`` [N, d_in] are a layer's inputs, ``delta`` [N, d_out] the gradients of each sample's own
    loss, without 1/N, with respect to its outputs; F is [d_out d_in, d_out d_in].
    """
    v = torch.einsum("no,ni->noi", delta, h).flatten(1)
    return v.T @ v / len(v)
