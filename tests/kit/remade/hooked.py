"""The example of hooks in steps, each of which can be made in another way.

Hooks catch inputs and output gradients as in ``ekfac_ref/examples/hooks.py``; the algebra after
that is written here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.adapter import Matrix
from ekfac_ref.examples.hooks import hooked, linear_layers


@dataclass(frozen=True)
class Caught:
    """What hooks caught of one layer: a [N, T, d_in], the 1 of the bias last, g [N, C, T, d_out],
    and the number of every sample's batch [N].
    """

    a: Tensor
    g: Tensor
    batch: Tensor
    biased: bool

    def __len__(self) -> int:
        return len(self.a)

    @property
    def T(self) -> int:
        return self.a.shape[1]

    @property
    def C(self) -> int:
        return self.g.shape[1]

    def of(self, n: Tensor | list[int]) -> "Caught":
        """Some of the samples, by number or by yes and no."""
        return replace(self, a=self.a[n], g=self.g[n], batch=self.batch[n])

    def batches(self) -> list["Caught"]:
        return [self.of(self.batch == number) for number in self.batch.unique()]


def columns(likelihood: ek.Likelihood, fisher: ek.Exact, f: Tensor, y: Tensor) -> Tensor:
    return fisher.columns(likelihood, f, y, 0)


def second_moment(rows: Tensor) -> Tensor:
    return rows.T @ rows / len(rows)


def factor_A(s: Caught) -> Tensor:
    return second_moment(s.a.flatten(0, 1))


def factor_B(s: Caught) -> Tensor:
    return second_moment(s.g.flatten(0, 2)) * s.C * s.T


def eigenvectors(factor: Tensor) -> Tensor:
    return torch.linalg.eigh(factor.double())[1].to(factor)


def gradients(s: Caught) -> Tensor:
    """[N, C, d_out, d_in]"""
    return torch.einsum("ncto,nti->ncoi", s.g, s.a)


def mean_square(R: Tensor) -> Tensor:
    return R.square().sum(1).mean(0)


def assembled(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
    Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
    return Q @ torch.diag(Lambda.flatten()) @ Q.T


@dataclass(frozen=True)
class Recipe:
    """EKFAC by hooks, step by step; every mistake is one step, or two, made in another way."""

    columns: Callable[[ek.Likelihood, ek.Exact, Tensor, Tensor], Tensor] = columns
    look: Callable[[Caught], Caught] = lambda s: s
    A: Callable[[Caught], Tensor] = factor_A
    B: Callable[[Caught], Tensor] = factor_B
    Q_A: Callable[[Tensor], Tensor] = eigenvectors
    Q_B: Callable[[Tensor], Tensor] = eigenvectors
    square: Callable[[Tensor], Tensor] = mean_square
    Lambda: Callable[[Caught, Tensor, Tensor, Tensor], Tensor] | None = None
    then: Callable[[Tensor, Caught], Tensor] = lambda Lambda, s: Lambda
    matrix: Callable[[Tensor, Tensor, Tensor], Tensor] = assembled

    def __call__(self, problem: ek.Problem) -> dict[str, Matrix]:
        if problem.sharing != ek.Expand() or problem.mask is not None:
            raise ValueError("sharing, mask: only Expand() without a mask")
        return {name: Matrix(self._block(self.look(s))) for name, s in self._catch(problem).items()}

    def _catch(self, problem: ek.Problem) -> dict[str, Caught]:
        layers = linear_layers(problem.model, problem.layers)
        caught: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
        for x, y in problem.batches:
            both = hooked(problem.model, layers, x, y, self._send(problem), 0)
            for name, a_and_g in both.items():
                caught[name].append(a_and_g)
        return {
            name: Caught(
                *map(torch.cat, zip(*caught[name], strict=True)),
                batch=torch.tensor([b for b, (_, y) in enumerate(problem.batches) for _ in y]),
                biased=layer.bias is not None,
            )
            for name, layer in layers.items()
        }

    def _send(self, problem: ek.Problem) -> Callable[[Tensor, Tensor, int], Tensor]:
        return lambda f, y, first: self.columns(problem.likelihood, problem.fisher, f, y)

    def _block(self, s: Caught) -> Tensor:
        Q_B, Q_A = self.Q_B(self.B(s)), self.Q_A(self.A(s))
        R = Q_B.T @ gradients(s) @ Q_A
        Lambda = self.square(R) if self.Lambda is None else self.Lambda(s, R, Q_B, Q_A)
        return self.matrix(Q_B, Q_A, self.then(Lambda, s))
