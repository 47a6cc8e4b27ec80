r"""What a preconditioner that shows no matrix makes of vectors: a few at random, and unit vectors.

Everything about P = (M + d I)^-1 is asked through products P V, for all layers at once, as a
training step would. Where layers are small, P is written out at one damping, and with it M.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.matrices import extent
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.conformance.truth.tolerance import fisher_scale, length

Vectors = dict[str, Tensor]  # {layer: [d_out, d_in]}, in float64
Solve = Callable[[Vectors, float], Vectors]  # (V, damping) to P V of a fresh copy of the problem

WRITTEN_OUT = 15  # parameters of the largest layer: as many calls


def at_random(blocks: dict[str, list[Block]], seed: int) -> Vectors:
    """Random numbers for every layer."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(extent(of_layer), generator=generator).double()
        for name, of_layer in blocks.items()
    }


def middle_damping(blocks: dict[str, list[Block]]) -> float:
    """A power of ten of the size of the blocks: the mean of log10(tr F / P), rounded.

    There, E is known from P to a few roundings more than P is. 1 where all blocks are zero.
    """
    fishers = [oracle.fisher(block.seen) for of_layer in blocks.values() for block in of_layer]
    sizes = torch.tensor([float(F.trace()) / len(F) for F in fishers]).double()
    logs = sizes[sizes > 0].log10()
    return float(10.0 ** float(logs.mean().round())) if len(logs) else 1.0


@dataclass(frozen=True, eq=False)
class Preconditioned:
    """The answers to one problem, asked for when they are needed and only once.

    Attributes:
        solve: asks the subject.
        blocks: {layer: its blocks}.
        empirical: {layer: one Observation per group} at the data's own labels.
    """

    solve: Solve
    blocks: dict[str, list[Block]]
    empirical: Callable[[], Observations]

    @cached_property
    def damping(self) -> float:
        """Of the size of the blocks (``middle_damping``)."""
        return middle_damping(self.blocks)

    @property
    def dampings(self) -> tuple[float, float, float]:
        """A small one, one of the blocks' size, and a large one."""
        return self.damping / 10, self.damping, self.damping * 10

    @cached_property
    def U(self) -> Vectors:
        """Random numbers for every layer."""
        return at_random(self.blocks, seed=3)

    @cached_property
    def W(self) -> Vectors:
        """Other random numbers for every layer."""
        return at_random(self.blocks, seed=4)

    @cached_property
    def of_U(self) -> dict[float, Vectors]:
        """{damping: P U}, at all three dampings."""
        return {damping: self.solve(self.U, damping) for damping in self.dampings}

    @cached_property
    def of_W(self) -> Vectors:
        """P W at the middle damping."""
        return self.solve(self.W, self.damping)

    @cached_property
    def gradient(self) -> Vectors:
        """The mean gradient of the loss that belongs to the likelihood: (1/N) sum_n G_n."""
        return {
            name: torch.cat([torch.stack([G.sum(0) for G in one.G]).mean(0) for one in groups])
            for name, groups in self.empirical().items()
        }

    @cached_property
    def matrices(self) -> dict[str, Tensor] | None:
        """{layer: P at the middle damping, [P, P]}; None where layers are too large for that."""
        shapes = {name: extent(blocks) for name, blocks in self.blocks.items()}
        sizes = {name: d_out * d_in for name, (d_out, d_in) in shapes.items()}
        if max(sizes.values()) > WRITTEN_OUT:
            return None
        columns: dict[str, list[Tensor]] = {name: [] for name in shapes}
        for number in range(max(sizes.values())):
            units = {
                name: torch.eye(size, dtype=torch.float64)[number % size].reshape(shapes[name])
                for name, size in sizes.items()
            }
            answers = self.solve(units, self.damping)
            for name, size in sizes.items():
                if number < size:
                    columns[name].append(answers[name].reshape(-1))
        return {name: torch.stack(of_layer, 1) for name, of_layer in columns.items()}


@dataclass(frozen=True, eq=False)
class Solved:
    """What ``precondition`` made of V in one layer: x, and once more ``again``. In float64."""

    damping: float
    V: Tensor
    x: Tensor
    again: Tensor


def inverted_ekfac(P: Tensor, seen: Observation, damping: float) -> Answered | None:
    """E = P^-1 - d I; None where P is singular, which a law of P says, or rounding is all of E.

    A right P is off by roundings of (|E| + d) / d^2, hence E by (|E| + d) / d times roundings of
    |E| + d, column by column: by so many, times the root of P columns, is it blurred. The largest
    eigenvalue of E is none above F's.
    """
    inverse, singular = torch.linalg.inv_ex(P)
    if int(singular) or not bool(torch.isfinite(inverse).all()):
        return None
    F = oracle.fisher(seen)
    largest, scale = float(torch.linalg.matrix_norm(F, 2)), fisher_scale(seen)
    blur = (largest + damping) / damping * (1 + damping / scale) * len(P) ** 0.5
    if blur * length(seen) * torch.finfo(seen.dtype).eps > 1:
        return None
    way = f"precondition, E = P^-1 - d I at d = {damping:g}, known to {blur:.2g} roundings"
    E = inverse - damping * torch.eye(len(P), dtype=P.dtype)
    seen = replace(seen, blur=blur)
    return Answered(way, seen, E, Own(None, "", seen.shape))
