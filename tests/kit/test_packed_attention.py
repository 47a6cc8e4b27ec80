"""Query, key and value of torch's attention as one layer, where a subject declares that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, Factors, Matrix, WithBias, adapted
from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.mutants.recipe import Recipe
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.model.layers import find_layers, in_projections

N, T, D, OUT = 3, 2, 2, 1
THREE = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
PACKED = ct.Definition(attention=ct.Packed())


class Attending(nn.Module):
    """Attention of tokens to themselves, or to others."""

    def __init__(self, bias: bool = True, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 1, bias=bias, batch_first=True, **options)
        self.head = nn.Linear(D, OUT)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        other = x if other is None else other
        y, _ = self.attention(x, other, other, need_weights=False)
        return torch.tanh(self.head(y)).sum(1)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def asked(bias: bool = True, others: bool = False, **choices: Any) -> ek.Problem:
    model = Attending(bias).double()
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=k))
    x, y = {"x": numbers(N, T, D)}, numbers(N, OUT)
    x |= {"other": numbers(N, T, D, seed=9)} if others else {}
    cuts = (slice(0, 2), slice(2, N))
    batches = [({name: v[cut] for name, v in x.items()}, y[cut]) for cut in cuts]
    choices = {"layers": (*THREE, "head"), "likelihood": ek.Gaussian()} | choices
    return ek.Problem(model, batches, **choices)


# The layer by plain autograd on the model's own parameters, and by its formula, without the kit.


@dataclass(frozen=True, eq=False)
class ByHand:
    """a [N, T, d_in], g [N, OUT, T, 3 D] and G [N, OUT, 3 D, d_in] of the packed layer."""

    a: Tensor
    g: Tensor
    G: Tensor

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        a, g = self.a.flatten(0, 1), self.g.flatten(0, 2)
        return g.T @ g / N, a.T @ a / len(a)

    @property
    def F(self) -> Tensor:
        v = self.G.flatten(0, 1).flatten(1)
        return v.T @ v / N

    @property
    def eigen(self) -> tuple[Tensor, Tensor, Tensor]:
        Q_B, Q_A = (torch.linalg.eigh(factor)[1] for factor in self.factors)
        return Q_B, Q_A, (Q_B.T @ self.G @ Q_A).square().sum((0, 1)) / N

    @property
    def E(self) -> Tensor:
        Q_B, Q_A, Lambda = self.eigen
        Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
        return Q @ torch.diag(Lambda.flatten()) @ Q.T


def by_hand(problem: ek.Problem) -> ByHand:
    model: Any = problem.model
    x = torch.cat([inputs["x"] for inputs, _ in problem.batches])
    weight, bias = model.attention.in_proj_weight, model.attention.in_proj_bias
    given, found_g, found_G = [weight] if bias is None else [weight, bias], [], []
    for n in range(N):
        f = model(x[n : n + 1])[0]
        for c in range(OUT):
            whole = torch.autograd.grad(f[c], given, retain_graph=True)
            found_G.append(torch.cat([grad.reshape(3 * D, -1) for grad in whole], 1))
        s = F.linear(x[n], weight, bias)
        q, k, v = s.chunk(3, 1)
        attended = torch.softmax(q @ k.T / D**0.5, 1) @ v
        again = torch.tanh(model.head(model.attention.out_proj(attended))).sum(0)
        torch.testing.assert_close(again, f)
        found_g += [torch.autograd.grad(again[c], s, retain_graph=True)[0] for c in range(OUT)]
    a = x if bias is None else torch.cat([x, torch.ones(N, T, 1).double()], 2)
    g = torch.stack(found_g).unflatten(0, (N, OUT))
    return ByHand(a, g, torch.stack(found_G).unflatten(0, (N, OUT)))


def answer(of: str, change: Callable[[Tensor], Tensor] = lambda M: M) -> ct.subject.Ask:
    """By hand, and the head by the package."""

    def ask(problem: ek.Problem) -> Mapping[str, Any]:
        known, head = by_hand(problem), replace(problem, layers=("head",))
        if of == "E":
            Q_B, Q_A, Lambda = known.eigen
            return {"attention.in_proj": ek.EigenKronecker(Q_B, Q_A, Lambda), **ek.ekfac(head)}
        raise AssertionError(of)

    return ask
