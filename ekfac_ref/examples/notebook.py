"""The notebook that this project began as: its EKFAC class for today's torch, mistakes included.

The class is judged twice. Its matrix is U diag(scalings) U^T with ``U = kron(UA, UB)``, and its
scalings are an array [d_out, d_in] flattened by rows:

- ``notebook`` reads the matrix as its author did when comparing it with an empirical Fisher: it
  acts on the rows of [d_out, d_in], one after the other. There U is the wrong basis.
- ``notebook_columns`` reads it as acting on the columns, one after the other. There U is the right
  basis, and the eigenvalues are in the wrong order. The set of them is right, so symmetry, a
  non-negative spectrum and the trace notice nothing.

The class knows one batch only, so the adapter puts the batches of a problem into one, and the mean
loss ``MSELoss()``, whose scale is declared. What is left is the algebra. The class has no answer
for positions, and its ``t()`` raises; nor for a bias, which it leaves out without a word. Its
``Abilities``, at the end, keep it to what it was made for.
"""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Convention, Matrix, adapted, columns, mean_loss, of_loss
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.question.columns import Empirical
from ekfac_ref.question.likelihoods import Gaussian
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand


class NotebookEKFAC:
    """The notebook's class, without its preconditioner, which its ``step`` never called.

    Its hooks stay on the network that it is given.
    """

    def __init__(self, network: nn.Module) -> None:
        self.stored_items: dict[nn.Module, dict[str, Tensor]] = {}
        for layer in network.modules():
            if type(layer) is nn.Linear:
                layer.register_forward_pre_hook(self.store_input)
                layer.register_forward_hook(self.watch_output)
                self.stored_items[layer] = {}

    def step(self) -> None:
        """After a forward and a backward pass."""
        self.compute_Kronecker_matrices()
        self.compute_scalings()

    def store_input(self, module: nn.Module, inputs_to_module: tuple[Tensor, ...]) -> None:
        """Keep what goes into a layer."""
        self.stored_items[module]["input"] = inputs_to_module[0].detach()

    def watch_output(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """For ``register_backward_hook``, which torch has given up."""
        output.register_hook(partial(self.store_grad_output, module))

    def store_grad_output(self, module: nn.Module, grad_wrt_output: Tensor) -> None:
        """Times the batch size, since the loss is a mean over the batch."""
        scaled = grad_wrt_output * grad_wrt_output.size(0)
        self.stored_items[module]["grad_wrt_output"] = scaled

    def compute_Kronecker_matrices(self) -> None:
        """Eigenvectors UA of A = E[h h^T] and UB of B = E[delta delta^T]."""
        for stored in self.stored_items.values():
            h, delta = stored["input"].t(), stored["grad_wrt_output"]
            A = h @ h.transpose(1, 0) / h.shape[1]
            B = delta.transpose(1, 0) @ delta / delta.shape[0]
            stored["UA"], stored["UB"] = eigh(A)[1], eigh(B)[1]

    def compute_scalings(self) -> None:
        """The eigenvalues [d_out, d_in], and they are right."""
        for stored in self.stored_items.values():
            UA, UB = stored["UA"], stored["UB"]
            h, delta = stored["input"].t(), stored["grad_wrt_output"]
            stored["scalings"] = ((UB.t() @ delta.t()) ** 2) @ ((h.t() @ UA) ** 2) / h.shape[1]

    def approximate_Fisher_matrix(self) -> list[Tensor]:
        """One matrix per layer. The first factor of ``kron`` should be the other one."""
        matrices = []
        for stored in self.stored_items.values():
            S = torch.diag(stored["scalings"].reshape(-1))
            UAkronUB = torch.kron(stored["UA"], stored["UB"])
            matrices.append(UAkronUB @ S @ UAkronUB.T)
        return matrices


def _matrices(problem: Problem) -> dict[str, Matrix]:
    if not isinstance(problem.fisher, Empirical) or problem.sharing != Expand():
        raise ValueError("fisher, sharing: the notebook has Empirical() and Expand(); use those.")
    if problem.layers is not None or problem.mask is not None:
        raise ValueError("layers, mask: the notebook treats all layers, unmasked; leave both out.")
    batches: list[tuple[Any, Tensor]] = list(problem.batches)
    if not all(isinstance(x, Tensor) for x, _ in batches):
        raise ValueError("inputs: the notebook calls the model with one tensor; pass that.")
    x, y = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    model = copy.deepcopy(problem.model)  # the class leaves hooks behind, and backward a .grad
    notebook_ekfac = NotebookEKFAC(model)
    mean_loss(problem.likelihood)(model(x), y).backward()
    notebook_ekfac.step()
    names = {module: name for name, module in model.named_modules()}
    layers = [names[layer] for layer in notebook_ekfac.stored_items]
    trainable = [n for n, m in model.named_modules() if _is_trainable(m)]
    if layers != trainable:
        raise ValueError(f"layers: the notebook has {layers}, trainable are {trainable}.")
    matrices = map(Matrix, notebook_ekfac.approximate_Fisher_matrix())
    return dict(zip(layers, matrices, strict=True))


def _is_trainable(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters(recurse=False))


_CAN = ct.Abilities(
    layers=(nn.Linear,),
    likelihoods=(Gaussian,),
    fishers=(Empirical,),
    sharings=(Expand,),
    shared_weights=False,
    masks=False,
    positions=False,
    bias=False,
    declines=(
        *("several inputs", "frozen layer", "subclass of a layer", "parameters of no layer"),
        *("input changed in place", "some layers only"),
    ),
)
_SCALE = of_loss(mean_loss)
notebook = ct.Subject("notebook", adapted(_matrices, Convention(scale=_SCALE)), abilities=_CAN)
notebook_columns = ct.Subject(
    "notebook, columns", adapted(_matrices, Convention(vec=columns, scale=_SCALE)), abilities=_CAN
)
