"""One operator that a subject answered with, for one block: what laws are asked of."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Tikhonov
from ekfac_ref.conformance.subjects.definition import Block, titles
from ekfac_ref.conformance.subjects.matrices import (
    BadAnswer,
    extent,
    matrices_of_blocks,
    own_blocks,
    real,
)
from ekfac_ref.conformance.subjects.own import Own, Together
from ekfac_ref.conformance.truth.observation import Observation


@dataclass(frozen=True, eq=False)
class Answered:
    """E, K or F of one block as the subject has it, and what that block saw.

    Attributes:
        way: how the subject was asked: "ekfac", "kfac" or "exact_fisher"; or how the kit came by
            the matrix otherwise, which messages say then.
        seen: by the kit's own eyes, in float64.
        matrix: [P, P], from the operator's products with all unit vectors, in float64.
        own: the operator itself, for laws that ask it for more.
        damping: what its ``solve`` is.
    """

    way: str
    seen: Observation
    matrix: Tensor
    own: Own
    damping: Damping = field(default_factory=Tikhonov)

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the block."""
        return self.seen.shape

    def random(self, seed: int) -> Tensor:
        """A V to multiply with, [d_out, d_in] of random numbers in the dtype of the algebra."""
        V = torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))
        return V.to(self.seen.algebra)

    def product(self, V: Tensor) -> Tensor:
        """The matrix times vec V, [d_out, d_in] in float64."""
        return (self.matrix @ V.double().reshape(-1)).reshape(V.shape)

    def factors(self) -> tuple[Tensor, Tensor]:
        """The (B, A) that a KFAC block shows, in float64; or BadAnswer."""
        B, A = (real(self.own.layer, name, getattr(self.own.operator, name)) for name in "BA")
        if (tuple(B.shape), tuple(A.shape)) != tuple((d, d) for d in self.shape):
            raise BadAnswer(
                f"layer {self.own.layer!r}: B and A have shapes {list(B.shape)} and "
                f"{list(A.shape)}; expected [d_out, d_out] and [d_in, d_in], [d_out, d_in] = "
                f"{list(self.shape)}"
            )
        return B.double(), A.double()


@dataclass(frozen=True, eq=False)
class Case:
    """All that a subject said of one block, None for what it does not offer.

    A block is a layer, or one group of it, or the weight or the bias of either where the subject
    treats them apart (``definition.py``).

    Attributes:
        layer: its name, with that of the block where there are several.
        seen: by the kit's own eyes, in float64.
        E: the EKFAC block.
        K: the KFAC block.
        F: the exact block.
        inverted: the EKFAC block as P^-1 - d I, of a small preconditioner P that shows nothing
            else; what it has ``seen`` is blurred by the roundings that are lost on the way.
        diagonal: of F, [d_out, d_in] in float64, by itself or of per-sample gradients.
    """

    layer: str
    seen: Observation
    E: Answered | None = None
    K: Answered | None = None
    F: Answered | None = None
    inverted: Answered | None = None
    diagonal: Tensor | None = None

    @property
    def operators(self) -> list[Answered]:
        """Those of E, K and F that it has."""
        return [one for one in (self.E, self.K, self.F) if one is not None]


def answered_blocks(
    way: str, layer: str, operator: Any, blocks: list[Block], damping: Damping | None = None
) -> list[Answered]:
    """The blocks of one layer, out of its operator."""
    matrices, own = matrices_of_blocks(layer, operator, blocks), own_blocks(operator, blocks)
    whole = _together(layer, operator, blocks) if len(blocks) > 1 else None
    rows = zip(blocks, titles(layer, blocks), matrices, own, strict=True)
    return [
        Answered(way, b.seen, M.matrix, Own(one, title, b.seen.shape, whole), damping or Tikhonov())
        for b, title, M, one in rows
    ]


def _together(layer: str, operator: Any, blocks: list[Block]) -> Together:
    """The operator as it is, and a V that no block shares with another."""
    shape = extent(blocks)
    V = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return Together(Own(operator, layer, shape), V.to(blocks[0].seen.algebra))
