"""G, A and B of every Linear and Embedding by plain autograd and hooks, one sample at a time."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

import ekfac_ref as ek


def called(model: nn.Module, inputs: Any, n: int) -> Tensor:
    """The outputs of sample n by itself, flat."""
    if isinstance(inputs, dict):
        return model(**{k: x[n : n + 1] for k, x in inputs.items()}).flatten()
    parts = inputs if isinstance(inputs, tuple) else (inputs,)
    return model(*(x[n : n + 1] for x in parts)).flatten()


def gradients(question: ek.Problem) -> dict[str, Tensor]:
    """{layer: G [N, C, d_out, d_in]} of a Gaussian, whose columns are the outputs."""
    named = [(n, m) for n, m in question.model.named_modules() if linear(m)]
    found: dict[str, list[Tensor]] = {name: [] for name, _ in named}
    for _, f in _outputs(question):
        for name, layer in named:
            parameters = [p for p in (layer.weight, getattr(layer, "bias", None)) if p is not None]
            rows = []
            for f_c in f:
                g = torch.autograd.grad(f_c, parameters, retain_graph=True, allow_unused=True)
                full = [
                    torch.zeros_like(p) if x is None else x
                    for p, x in zip(parameters, g, strict=True)
                ]
                W = full[0].T if isinstance(layer, nn.Embedding) else full[0]
                rows.append(torch.cat([W, *(b[:, None] for b in full[1:])], 1))
            found[name].append(torch.stack(rows))
    return {name: torch.stack(rows).detach() for name, rows in found.items()}


def factors(question: ek.Problem) -> dict[str, tuple[Tensor, Tensor]]:
    """{layer: (B, A)} of Expand() and a Gaussian, for every Linear: A is a mean over positions."""
    layers = {n: m for n, m in question.model.named_modules() if isinstance(m, nn.Linear)}
    seen: list[tuple[str, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(lambda m, x, y, name=name: seen.append((name, x[0], y)))
        for name, layer in layers.items()
    ]
    A: dict[str, Any] = dict.fromkeys(layers, 0)
    B: dict[str, Any] = dict.fromkeys(layers, 0)
    rows = dict.fromkeys(layers, 0)
    N = 0
    try:
        for _, f in _outputs(question):
            N += 1
            for f_c in f:
                outputs = [y for _, _, y in seen]
                g = torch.autograd.grad(f_c, outputs, retain_graph=True, allow_unused=True)
                for (name, _, y), g_y in zip(seen, g, strict=True):
                    g_t = (torch.zeros_like(y) if g_y is None else g_y).reshape(-1, y.shape[-1])
                    B[name] = B[name] + g_t.T @ g_t
            for name, x, _ in seen:
                a = x.detach().reshape(-1, x.shape[-1])
                if layers[name].bias is not None:
                    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
                A[name] = A[name] + a.T @ a
                rows[name] += len(a)
            seen.clear()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (B[name] / N, A[name] / rows[name]) for name in layers}


def linear(module: nn.Module) -> bool:
    """Whether its gradients are computed here."""
    return isinstance(module, (nn.Linear, nn.Embedding)) and module.weight.requires_grad


def _outputs(question: ek.Problem) -> Iterable[tuple[int, Tensor]]:
    first = 0
    for inputs, y in question.batches:
        for n in range(len(y)):
            yield first + n, called(question.model, inputs, n)
        first += len(y)


def check(question: ek.Problem, plain: ek.Problem | None = None, rtol: float = 1e-11) -> None:
    """Per-sample gradients, factors, and EKFAC's eigenvalues in its own basis.

    ``plain``: the same problem in a form that loops and hooks understand.
    """
    G, by_hooks = gradients(plain or question), factors(plain or question)
    found = [*ek.per_sample_gradients(question)]
    K, E = ek.kfac(question), ek.ekfac(question)
    for name, expected in G.items():
        close(torch.cat([chunk[name] for chunk in found]), expected, rtol)
        projected = E[name].Q_B.T @ expected.to(E[name].Q_B) @ E[name].Q_A
        close(E[name].eigenvalues, projected.square().sum(1).mean(0), rtol)
        if name in by_hooks:
            close(K[name].B, by_hooks[name][0], rtol)
            close(K[name].A, by_hooks[name][1], rtol)


def close(x: Tensor, y: Tensor, rtol: float) -> None:
    """In units of the largest entry."""
    atol = rtol * float(y.detach().abs().amax())
    torch.testing.assert_close(x.detach().to(y), y.detach(), rtol=0, atol=atol)
