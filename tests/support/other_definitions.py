"""Subjects of every definition, written from the formulas on what the kit has seen of each group.

How the kit cuts that into blocks is what is tested with them.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import draw_problems, of_one_family
from ekfac_ref.conformance.problems.families.images import convolutions
from ekfac_ref.conformance.problems.networks import MaskedMean
from ekfac_ref.conformance.subjects.definition import Definition, Separate, Shared
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import LawBroken
from tests.support.witnesses import TiedWithOneBias

DEFINITIONS = {
    "separate": Definition(bias=Separate()),
    "shared": Definition(A=Shared()),
    "both": Definition(Separate(), Shared()),
}
SHARINGS = [ek.Expand(), ek.Reduce()]
ABILITIES = Abilities(layers=(nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d))


# The definitions, in plain tensors.


@dataclass(frozen=True, eq=False)
class Piece:
    """One block: its entries of vec([W | b]), rows stacked, and its factors."""

    entries: Tensor
    B: Tensor
    A: Tensor
    G: Tensor  # [N C, d_out, d_in]
    N: int

    @property
    def Q(self) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(self.B)[1], torch.linalg.eigh(self.A)[1]

    @property
    def eigenvalues(self) -> Tensor:
        Q_B, Q_A = self.Q
        return (Q_B.T @ self.G @ Q_A).square().sum(0) / self.N

    def matrix(self, of: str) -> Tensor:
        if of == "F":
            v = self.G.flatten(1)
            return v.T @ v / self.N
        if of == "K":
            return torch.kron(self.B, self.A)
        Q = torch.kron(*(x.contiguous() for x in self.Q))
        return Q @ torch.diag(self.eigenvalues.flatten()) @ Q.T


def rows_of(seen: Observation) -> tuple[Tensor, Tensor]:
    """(output gradients, inputs) whose mean outer products are B (over N) and A (over rows)."""
    kept = [a[yes] for a, yes in zip(seen.a, seen.counted, strict=True) if yes.any()]
    if isinstance(seen.sharing, ek.Expand):
        return torch.cat([g.flatten(0, 1) for g in seen.g]), torch.cat(kept)
    return torch.cat([g.sum(1) for g in seen.g]), torch.stack([a.mean(0) for a in kept])


def pieces(problem: ek.Problem, apart: bool, one_A: bool) -> dict[str, list[Piece]]:
    """Every block of every layer: W and b apart or together, one A or one per group."""
    biased = {x.name: x.bias is not None for x in ek.find_layers(problem.model, problem.layers)}
    found: dict[str, list[Piece]] = {}
    for name, groups in observed_exactly(problem).items():
        d_out, d_in = groups[0].G[0].shape[1:]
        cut = [list(range(d_in))]
        if apart and biased[name]:
            cut = [cut[0][:-1], cut[0][-1:]]
        rows = [rows_of(seen) for seen in groups]
        A = [a.T @ a / len(a) for _, a in rows]
        A = [sum(A) / len(A)] * len(A) if one_A else A
        found[name] = [
            Piece(
                torch.tensor([(k * d_out + o) * d_in + i for o in range(d_out) for i in inputs]),
                rows[k][0].T @ rows[k][0] / len(seen.G),
                A[k][inputs][:, inputs],
                torch.cat(seen.G)[:, :, inputs],
                len(seen.G),
            )
            for k, seen in enumerate(groups)
            for inputs in cut
        ]
    return found


@dataclass(frozen=True, eq=False)
class Whole:
    """A matrix for a whole layer, and nothing else."""

    matrix: Tensor

    def matvec(self, V: Tensor) -> Tensor:
        return (self.matrix @ V.double().flatten()).reshape(V.shape).to(V)


@dataclass(frozen=True, eq=False)
class InBlocks(Whole):
    """The same with an operator for every block."""

    blocks: tuple[Any, ...]


def whole(parts: list[Piece], of: str) -> Tensor:
    P = sum(len(part.entries) for part in parts)
    matrix = torch.zeros(P, P).double()
    for part in parts:
        matrix[part.entries[:, None], part.entries] = part.matrix(of)
    return matrix


def operator(parts: list[Piece], dtype: torch.dtype) -> Any:
    own = tuple(
        ek.EigenKronecker(*(Q.to(dtype) for Q in part.Q), part.eigenvalues.to(dtype))
        for part in parts
    )
    return InBlocks(whole(parts, "E"), own) if len(own) > 1 else own[0]


def correct(name: str, declared: bool = True, opaque: bool = False) -> Subject:
    """All that can be asked, by the definition of this name; ``opaque``: products alone."""
    definition = DEFINITIONS[name]
    apart, one_A = isinstance(definition.bias, Separate), isinstance(definition.A, Shared)

    def answer(of: str) -> Callable[[ek.Problem], Mapping[str, Any]]:
        def ask(problem: ek.Problem) -> Mapping[str, Any]:
            refuse(problem)
            found = pieces(problem, apart, one_A).items()
            if of == "E" and not opaque:
                return {name: operator(parts, problem.dtype) for name, parts in found}
            return {name: Whole(whole(parts, of)) for name, parts in found}

        return ask

    def precondition(
        problem: ek.Problem, V: Mapping[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        found = pieces(problem, apart, one_A).items()
        return {name: solved(whole(parts, "E"), V[name], damping) for name, parts in found}

    of_E, of_K, of_F = (answer(of) for of in "EKF")
    subject = Subject(name, of_E, of_K, of_F, ABILITIES, precondition, definition)
    return subject if declared else replace(subject, definition=Definition())


def solved(matrix: Tensor, V: Tensor, damping: float) -> Tensor:
    damped = matrix + damping * torch.eye(len(matrix)).double()
    return torch.linalg.solve(damped, V.double().flatten()).reshape(V.shape).to(V)


def refuse(problem: ek.Problem) -> None:
    """As the kit observes in silence only what it can, this is the reference's refusal."""
    observed_exactly(problem)


# Problems.


def numbers(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def made(model: nn.Module, x: Any, out: int, **choices: Any) -> ek.Problem:
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * numbers(*parameter.shape))
    cuts, y = (slice(0, 2), slice(2, 5)), numbers(5, out)
    part = torch.utils._pytree.tree_map
    batches = [(part(lambda v, cut=cut: v[cut], x), y[cut]) for cut in cuts]
    return ek.Problem(model, batches, ek.Gaussian(), **choices)


def grouped(**choices: Any) -> ek.Problem:
    """Two groups, three positions, a bias; features of the groups of other sizes."""
    x = numbers(5, 4, 4) * torch.tensor([1.0, 2, 3, 4]).double()[:, None]
    convolution = nn.Conv1d(4, 4, 2, groups=2)
    return made(
        nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)), x, 2, **choices
    )


def tied(**choices: Any) -> ek.Problem:
    """A weight used with the bias and without."""
    return made(TiedWithOneBias(), numbers(5, 2), 2, **choices)


def masked(**choices: Any) -> ek.Problem:
    """Tokens, of which some do not count."""
    counted = torch.arange(3) < torch.tensor([3, 1, 2, 3, 2])[:, None]
    given = {"x": numbers(5, 3, 2), "mask": counted}
    model = MaskedMean(nn.Linear(2, 2), nn.Linear(2, 2))
    return made(model, given, 2, mask=lambda given: given["mask"], **choices)


HAND_MADE = [grouped, tied, masked]


@functools.cache
def drawn() -> list[ek.Problem]:
    """Ten of any kind, and six with groups."""
    images = of_one_family(ABILITIES, convolutions, 60, 0)
    some = [p for p in images if any(x.groups > 1 for x in ek.find_layers(p.model, p.layers))]
    return draw_problems(ABILITIES, 10, 0) + some[:6]


def broken(on_trial: Subject, problem: ek.Problem) -> set[str]:
    """Names of laws."""
    trial, names = Trial(on_trial, problem), set()
    for law in LAWS.values():
        try:
            list(law.ask(trial))
        except LawBroken:
            names.add(law.name)
    return names
