"""One problem to compare on: which of its layers have one right answer, and what that is.

A layer takes part where its eigengaps leave one matrix, if that has a basis. T is the number of
positions of the layer, K that of all outputs of a sample.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ekfac_ref.conformance.diagnosis.quantity import Quantity
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.truth import eigengaps, oracle
from ekfac_ref.conformance.truth.cache import observed, observed_exactly
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.conformance.truth.tolerance import fisher_scale
from ekfac_ref.model.forward import call
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Precision:
    """What counts as equal in the subject's dtype.

    Attributes:
        dtype: of the problems.
        fits: the largest relative error that is called agreement.
        differs: the smallest that is called a difference.
        gap: eigengaps that a layer needs; rounding grows with their inverse.
    """

    dtype: torch.dtype
    fits: float
    differs: float
    gap: float

    @property
    def inverse(self) -> "Precision":
        """For what is known from its inverse, which loses some digits."""
        return replace(self, fits=max(self.fits, 1e-6), differs=max(self.differs, 1e-5))


DOUBLE = Precision(torch.float64, 1e-8, 1e-6, eigengaps.GATE)
# The wider gap keeps eigenvectors right to some roundings of 4e-6, and what fits to 1e-3.
SINGLE = Precision(torch.float32, 1e-3, 1e-2, 30 * eigengaps.GATE)
PRECISIONS = (DOUBLE, SINGLE)  # in bfloat16 too many mistakes look alike


@dataclass(frozen=True, eq=False)
class Question:
    """One problem, which of its layers (and groups) are compared, and what they should be.

    Attributes:
        problem: as the subject and the mutants get it.
        precision: of its dtype.
        seen: what every layer saw, {layer: one Observation per group}.
        rows: numbers of those that are compared, counted through all layers and groups.
        sizes: (N, T, K) of each of them.
        shapes: (d_out, d_in) of each of them.
        correct: the matrix of each of them, [P, P] mostly, P = d_out d_in, in float64.
        quantity: which matrix that is.
    """

    problem: Problem
    precision: Precision
    seen: Observations
    rows: list[int]
    sizes: list[tuple[int, int, int]]
    shapes: list[tuple[int, int]]
    correct: list[Tensor]
    quantity: Quantity

    @property
    def compared(self) -> list[Observation]:
        """What each of those that are compared saw."""
        every = [one for groups in self.seen.values() for one in groups]
        return [every[row] for row in self.rows]

    @property
    def features(self) -> set[object]:
        """What should vary from one problem to the next."""
        sizes = {x for size in self.sizes for x in zip("NTK", size, strict=True)}
        kinds = {type(module) for module in self.problem.model.modules()}
        fisher, sharing = type(self.problem.fisher), type(self.problem.sharing)
        mask = ("mask", self.problem.mask is not None)
        uneven = ("uneven", len({len(y) for _, y in self.problem.batches}) > 1)
        return {*sizes, *kinds, fisher, sharing, mask, uneven, type(self.problem.likelihood)}

    @property
    def parameters(self) -> int:
        """Of the largest layer, all its groups."""
        return max(sum(one.G[0][0].numel() for one in groups) for groups in self.seen.values())

    @property
    def has_positions(self) -> bool:
        """Whether T > 1 in a layer that cannot be transposed in silence."""
        both = zip(self.sizes, self.shapes, strict=True)
        return any(T > 1 and d_out != d_in for (_, T, _), (d_out, d_in) in both)


def question_about(
    problem: Problem, precision: Precision, definition: Definition, quantity: Quantity
) -> Question:
    """What can be compared on a problem with a subject of this definition.

    Mutants are mistakes in the default one, so layers on which the two differ do not take part.
    """
    # In float64 no account of rounding is needed.
    seen = observed_exactly(problem) if precision.dtype is torch.float64 else observed(problem)
    groups = [
        (not definition.differs(problem, layer, len(several)), one)
        for layer, several in seen.items()
        for one in several
    ]
    rows = [
        i for i, (same, one) in enumerate(groups) if same and _comparable(one, precision, quantity)
    ]
    every = quantity.correct(Definition().blocks(problem, seen))
    rows = [i for i in rows if every[i].numel()]
    compared = [groups[i][1] for i in rows]
    N, K = samples_and_outputs(problem)
    sizes = [(N, one.g[0].shape[1], K) for one in compared]
    shapes = [(one.G[0].shape[1], one.G[0].shape[2]) for one in compared]
    correct = [every[i] for i in rows]
    return Question(problem, precision, seen, rows, sizes, shapes, correct, quantity)


def samples_and_outputs(problem: Problem) -> tuple[int, int]:
    """(N, K): the number of samples, and that of all outputs of one, positions included."""
    inputs, _ = next(iter(problem.batches))
    with torch.no_grad():
        K = call(problem.model, inputs)[0].numel()
    return sum(len(y) for _, y in problem.batches), K


def _comparable(seen: Observation, precision: Precision, quantity: Quantity) -> bool:
    size = oracle.fisher(seen).norm()
    # Where gradients cancel to nothing, their matrix is rounding.
    is_rounding = not size > precision.differs * fisher_scale(seen)
    if is_rounding or not quantity.has_a_basis:
        return not is_rounding
    # A wrong matrix may also depend on the basis of a null space, which the right one never does.
    return eigengaps.gap_with_zeros(seen) >= precision.gap
