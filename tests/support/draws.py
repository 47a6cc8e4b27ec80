"""Implementations that draw labels for themselves, by torch's own generator: right, and wrong."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, Factors, Matrix, adapted
from ekfac_ref.examples import hooks
from ekfac_ref.examples.hooks import hook_ekfac, hooked, linear_layers

Draw = Callable[[ek.Problem, Tensor, Tensor], Tensor]


def drawn(problem: ek.Problem, f: Tensor, y: Tensor) -> Tensor:
    """Labels of the model's distribution at the outputs f."""
    likelihood = problem.likelihood
    if isinstance(likelihood, ek.Gaussian):
        return f + torch.randn_like(f)
    if isinstance(likelihood, ek.Bernoulli):
        return torch.bernoulli(f.sigmoid())
    if isinstance(likelihood, ek.Poisson):
        return torch.poisson(f.exp())
    assert isinstance(likelihood, ek.Categorical)
    p = f.movedim(likelihood.class_axis, -1).softmax(-1)
    label = torch.multinomial(p.flatten(0, -2), 1).reshape(y.shape)
    return torch.where(likelihood.counted(y), label, y)


def sampling(draw: Draw = drawn, times: float = 1.0, draws: int | None = None) -> ct.Subject:
    """The hooks' EKFAC, with KFAC and exact blocks beside it, of labels drawn like this.

    Gradients are off by the factor ``times``. Labels of every sample are as many as is asked for,
    or else ``draws``.
    """

    def columns(problem: ek.Problem) -> Callable[[Tensor, Tensor, int], Tensor]:
        if problem.sharing != ek.Expand() or problem.mask is not None:
            raise ValueError("sharing, mask: only Expand() without a mask is implemented.")
        C = draws or problem.fisher.draws

        def of_batch(f: Tensor, y: Tensor, first: int) -> Tensor:
            scores = [problem.likelihood.score(f, draw(problem, f, y)) for _ in range(C)]
            return torch.stack(scores, 1) / C**0.5

        return of_batch

    def ekfac(problem: ek.Problem) -> dict[str, Eigen]:
        found = hook_ekfac(problem.model, problem.layers, problem.batches, columns(problem))
        return {name: Eigen(Q_B, Q_A, s * times**2) for name, (Q_B, Q_A, s) in found.items()}

    def rows(problem: ek.Problem) -> dict[str, tuple[Tensor, Tensor]]:
        of_batch, layers = columns(problem), linear_layers(problem.model, problem.layers)
        found = [hooked(problem.model, layers, x, y, of_batch, 0) for x, y in problem.batches]
        pairs = {name: [batch[name] for batch in found] for name in layers}
        return {
            name: (torch.cat([a for a, _ in of]), torch.cat([g for _, g in of]) * times)
            for name, of in pairs.items()
        }

    def kfac(problem: ek.Problem) -> dict[str, Factors]:
        return {
            name: Factors(
                B=torch.einsum("ncto,nctp->op", g, g) / len(g),
                A=torch.einsum("nti,ntj->ij", a, a) / (a.shape[0] * a.shape[1]),
            )
            for name, (a, g) in rows(problem).items()
        }

    def fisher(problem: ek.Problem) -> dict[str, Matrix]:
        found = {}
        for name, (a, g) in rows(problem).items():
            G = torch.einsum("ncto,nti->ncoi", g, a).flatten(0, 1).flatten(1)
            found[name] = Matrix(G.T @ G / len(g))
        return found

    ways: dict[str, Any] = {"sampled_ekfac": ekfac, "sampled_kfac": kfac, "sampled_fisher": fisher}
    asks = {way: adapted(ask) for way, ask in ways.items()}
    return ct.Subject("draws for itself", **asks, abilities=hooks.abilities)
