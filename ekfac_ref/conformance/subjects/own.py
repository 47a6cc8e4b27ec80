"""A block's operator as the subject made it, every answer looked at before a law sees it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from ekfac_ref.conformance.subjects.matrices import BadAnswer, checked, real

_BASIS = ("Q_B", "Q_A", "eigenvalues")


@dataclass(eq=False)
class Together:
    """All blocks of a layer, by the operator of the layer itself.

    Attributes:
        own: that operator.
        V: of the layer, without zeros.
    """

    own: "Own"
    V: Tensor

    @cached_property
    def product(self) -> Tensor:
        """The operator's product with V; asked once, whichever block needs it first."""
        return self.own.matvec(self.V.clone())


@dataclass(frozen=True, eq=False)
class Own:
    """What it answers beyond the one matrix that the kit makes of it.

    Attributes:
        operator: as the subject made it.
        layer: its name, for messages.
        shape: (d_out, d_in) of the V that it takes.
        together: all blocks of the layer at once, where this is one of several.
    """

    operator: Any
    layer: str
    shape: tuple[int, int]
    together: Together | None = None

    @property
    def solves(self) -> bool:
        """Whether there is a ``solve``."""
        return hasattr(self.operator, "solve")

    @property
    def shows_its_basis(self) -> bool:
        """Whether there are eigenvectors and eigenvalues to look at."""
        return all(getattr(self.operator, name, None) is not None for name in _BASIS)

    @property
    def shows_its_factors(self) -> bool:
        """Whether there are a B and an A to look at."""
        return all(getattr(self.operator, name, None) is not None for name in "BA")

    def matvec(self, V: Tensor) -> Tensor:
        """E V, in the dtype that the subject gives it in; BadAnswer if it is no such thing."""
        return checked(self.layer, "matvec", self.operator.matvec(V), "for V of", self.shape)

    def solve(self, V: Tensor, *, damping: float) -> Tensor:
        """(E + damping I)^-1 V, likewise."""
        x = self.operator.solve(V, damping=damping)
        return checked(self.layer, "solve", x, "for V of", self.shape)

    def basis(self) -> tuple[Tensor, Tensor, Tensor]:
        """(Q_B [d_out, r_out], Q_A [d_in, r_in], Lambda [r_out, r_in]) in float64; or BadAnswer."""
        Q_B, Q_A, Lambda = (
            real(self.layer, name, getattr(self.operator, name)).double() for name in _BASIS
        )
        fits = Q_B.dim() == Q_A.dim() == 2 and (len(Q_B), len(Q_A)) == self.shape
        if not fits or tuple(Lambda.shape) != (Q_B.shape[1], Q_A.shape[1]):
            raise BadAnswer(
                f"layer {self.layer!r}: Q_B, Q_A and eigenvalues have shapes {list(Q_B.shape)}, "
                f"{list(Q_A.shape)} and {list(Lambda.shape)}; expected [d_out, r_out], "
                f"[d_in, r_in] and [r_out, r_in], [d_out, d_in] = {list(self.shape)}"
            )
        return Q_B, Q_A, Lambda
