"""EKFAC of Linear layers in the classic way, by hooks, and its adapter: eight lines at the end.

Nothing of this package is used to compute it: a forward pre-hook keeps every layer's inputs, a hook
on its output keeps the gradients that come back, a first pass over the data sums up the factors,
their eigenvectors are taken, and a second pass measures the eigenvalues.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, adapted
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand

_Columns = Callable[[Tensor, Tensor, int], Tensor]
_Batches = Iterable[tuple[Any, Tensor]]


def hook_ekfac(
    model: nn.Module, names: tuple[str, ...] | None, batches: _Batches, columns: _Columns
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """{layer: (Q_B, Q_A, eigenvalues)}, for the named layers, or for all that can be trained.

    Args:
        model: left as it was, ``.grad`` included.
        names: as in ``model.named_modules()``.
        batches: read twice.
        columns: of outputs [N, *out], labels and the number of the first sample; returns what to
            send backward, [N, C, *out]: one column per sample for the empirical Fisher, a square
            root of the covariance of the output gradient for the exact one.
    """
    layers = linear_layers(model, names)
    A: dict[str, Any] = dict.fromkeys(layers, 0)
    B: dict[str, Any] = dict.fromkeys(layers, 0)
    squares: dict[str, Any] = dict.fromkeys(layers, 0)
    positions = dict.fromkeys(layers, 0)
    N = 0
    for x, y in batches:
        for name, (a, g) in hooked(model, layers, x, y, columns, N).items():
            A[name] += torch.einsum("nti,ntj->ij", a, a)
            B[name] += torch.einsum("ncto,nctp->op", g, g)
            positions[name] += a.shape[0] * a.shape[1]
        N += len(y)
    Q_A = {name: _eigenvectors(A[name] / positions[name]) for name in layers}
    Q_B = {name: _eigenvectors(B[name] / N) for name in layers}
    first = 0
    for x, y in batches:
        for name, (a, g) in hooked(model, layers, x, y, columns, first).items():
            # A sample's gradient is the sum over its positions, and only then is it squared.
            G = torch.einsum("ncto,nti->ncoi", g, a)
            squares[name] += (Q_B[name].T @ G @ Q_A[name]).square().sum((0, 1))
        first += len(y)
    return {name: (Q_B[name], Q_A[name], squares[name] / N) for name in layers}


def _eigenvectors(factor: Tensor) -> Tensor:
    """As columns; by float64, since LAPACK's float32 solver gives up on some singular matrices."""
    return torch.linalg.eigh(factor.double())[1].to(factor)


def hooked(
    model: nn.Module, layers: dict[str, nn.Linear], x: Any, y: Tensor, columns: _Columns, first: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """{layer: (inputs [N, T, d_in], output gradients [N, C, T, d_out])} of one batch."""
    inputs: dict[str, Tensor] = {}
    gradients: dict[str, list[Tensor]] = {name: [] for name in layers}
    handles = []

    def keep_input(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if name in inputs:
            raise ValueError(f"layer {name!r}: called twice in one forward; leave it out.")
        if args[0].dim() < 2 or len(args[0]) != len(y):
            raise ValueError(
                f"layer {name!r}: inputs {list(args[0].shape)} for {len(y)} samples; axis 0 has to "
                "be the sample, so reshape inside the model, or leave the layer out."
            )
        inputs[name] = _wide(args[0].detach())

    def watch_output(name: str, module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        # On the tensor: a full backward hook of the module cannot be followed by an in-place op.
        out.register_hook(lambda g: gradients[name].append(_wide(g.detach())))
        return out.clone()  # and such an op would drop the hook, since ``out`` may be a view

    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_pre_hook(partial(keep_input, name)))
            handles.append(layer.register_forward_hook(partial(watch_output, name)))
        with torch.enable_grad():
            f = _call(model, x)
        if not bool(f.isfinite().all()):
            raise ValueError(
                f"model: NaN or infinity in the outputs of the batch at sample {first}; clean the "
                "data, or the parameters."
            )
        S = columns(f.detach(), y, first)
        weights = [layer.weight for layer in layers.values()]
        for c in range(S.shape[1]):  # autograd.grad, since backward would add to .grad
            torch.autograd.grad(f, weights, S[:, c], retain_graph=True)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: (
            _with_ones(inputs[name].reshape(len(y), -1, layer.in_features), layer),
            torch.stack(gradients[name], 1).reshape(len(y), S.shape[1], -1, layer.out_features),
        )
        for name, layer in layers.items()
    }


def _wide(x: Tensor) -> Tensor:
    """In float32 at the least: eigenvectors in bfloat16 are orthonormal to two digits only."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def linear_layers(model: nn.Module, names: tuple[str, ...] | None) -> dict[str, nn.Linear]:
    """The layers asked for; whatever else is asked for is refused."""
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise ValueError(f"module {name!r}: BatchNorm mixes the samples; call model.eval().")
    trainable = [n for n, m in modules.items() if any(p.requires_grad for p in _own(m))]
    owners = [id(p) for _, p in model.named_parameters(remove_duplicate=False)]
    layers = {}
    for name in trainable if names is None else names:
        layer = modules.get(name)
        if type(layer) is not nn.Linear or not layer.weight.requires_grad:
            raise ValueError(
                f"layer {name!r}: a {type(layer).__name__}, and only Linear layers with a "
                "trainable weight are implemented; name the others."
            )
        if any(owners.count(id(p)) > 1 for p in _own(layer)):
            raise ValueError(f"layer {name!r}: shares a parameter with another; leave it out.")
        layers[name] = layer
    return layers


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _call(model: nn.Module, x: Any) -> Tensor:
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, (tuple, list)) else model(x)


def _with_ones(a: Tensor, layer: nn.Linear) -> Tensor:
    """The bias is the weight of an input that is always 1, the last one."""
    if layer.bias is None or not layer.bias.requires_grad:
        return a
    return torch.cat([a, torch.ones_like(a[..., :1])], -1)


_CAN = ct.Abilities(
    layers=(nn.Linear,),
    sharings=(Expand,),
    shared_weights=False,
    masks=False,
    declines=(
        *("tokens as samples", "tokens first", "one input for all samples"),
        "subclass of a layer",
    ),
)


# The adapter, all of it. (A test holds it to ten lines.)
def _ekfac(problem: Problem) -> dict[str, Eigen]:
    if problem.sharing != Expand() or problem.mask is not None:
        raise ValueError("sharing, mask: only Expand() without a mask is implemented; use that.")
    columns = partial(problem.fisher.columns, problem.likelihood)
    found = hook_ekfac(problem.model, problem.layers, problem.batches, columns)
    return {name: Eigen(*block) for name, block in found.items()}


hooks = ct.Subject("hooks", adapted(_ekfac), abilities=_CAN)
