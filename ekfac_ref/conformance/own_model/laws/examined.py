"""One part of a layer as a subject answers for it, next to what is right."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Tikhonov
from ekfac_ref.conformance.own_model.laws.readings import (
    Reading,
    Sums,
    read_eigenvalues,
    sums_to_compare,
)
from ekfac_ref.conformance.own_model.measured.measure import Measured
from ekfac_ref.conformance.subjects.own import Own

_POWERS = 5  # of K, until a vector is mostly its largest eigenvector


@dataclass(frozen=True, eq=False)
class Inverted:
    """What ``precondition`` made of V in one part: x. In float64."""

    damping: float
    V: Tensor
    x: Tensor


@dataclass(eq=False)
class Examined:
    """One part.

    Attributes:
        known: what is right.
        seed: of random vectors.
        E, K: the subject's operators on it, where it has them.
        damping: what the ``solve`` of K is, and a ``precondition`` without E.
        in_own_basis: (1/N) sum_nc [Q_B^T G_nc Q_A]^2 in the basis that E shows, where it does.
        inner: (1/N) sum_nc <G_nc, E G_nc>, where there are few of them.
        inverted: what ``precondition`` answered.
    """

    known: Measured
    seed: int
    E: Own | None = None
    K: Own | None = None
    damping: Damping = field(default_factory=Tikhonov)
    in_own_basis: Tensor | None = None
    inner: float | None = None
    inverted: list[Inverted] = field(default_factory=list)

    @cached_property
    def reading(self) -> Reading:
        """The eigenvalues of E, by a few products."""
        assert self.E is not None
        return read_eigenvalues(self.E, self.known, self.seed)

    @cached_property
    def sums(self) -> list[Sums]:
        """Which of these are compared, to which precision."""
        return sums_to_compare(self.known)

    @property
    def size(self) -> float:
        """|E|, by what is right or by what is answered, whichever is larger."""
        return max(self.known.size, self.reading.size)

    @cached_property
    def size_of_K(self) -> float:
        """|K|, likewise: where all terms cancel an answer is rounding, and no less linear."""
        assert self.K is not None
        B, A = self.known.B.factor, self.known.A.factor
        answered = float(self.K.matvec(self.random(12)).double().norm())
        return max(float(B.norm()) * float(A.norm()), answered)

    @cached_property
    def stretch_of_K(self) -> float:
        """Of a symmetric K the largest eigenvalue, or little less: |K V| / |V| by powers of K."""
        assert self.K is not None
        found, V = 0.0, self.random(13)
        for _ in range(_POWERS):
            image = self.K.matvec(V / max(float(V.norm()), 1e-30))
            found, V = max(found, float(image.double().norm())), image.to(V)
        return found

    @property
    def operators(self) -> list[tuple[str, Own, float]]:
        """(name, operator, its norm) of E and K, those that there are."""
        found = []
        if self.E is not None:
            found.append(("E", self.E, self.size))
        if self.K is not None:
            found.append(("K", self.K, self.size_of_K))
        return found

    def random(self, number: int) -> Tensor:
        """V with |V|^2 about P, in the dtype of the algebra; another one for every number."""
        generator = torch.Generator().manual_seed(1_000_003 * (number + 1) + self.seed)
        return torch.randn(self.known.part.shape, generator=generator).to(self.known.algebra)

    def product_rounding(self, size: float) -> float:
        """How far M V is off for |V|^2 = P, |M| = size: by two rotations, or a sum of products."""
        d_out, d_in = self.known.part.shape
        return self.known.roundoff * (d_out**0.5 + d_in**0.5) * size
