r"""One vector's data: a, g and which positions count, and what is asked of it."""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from jaxtyping import Bool, Float64

from ekfac_ref.question.sharing import Expand, Sharing


class BiasTreatment(Enum):
    """What becomes of the bias of a layer, in the words of the files."""

    NONE = "none"
    JOINT = "joint"
    SEPARATE = "separate"


@dataclass(frozen=True, eq=False)
class Bare:
    """What one layer saw, without a network: all that its Fisher, KFAC and EKFAC are made of.

    Attributes:
        name: stable; what files and reports call it.
        says: what is special about it.
        a: inputs of every position; with a bias, its 1 (0 where it is not used) is the last.
        g: output gradients of every column and position; no factor of N.
        counted: which positions count.
        sharing: how positions become the rows of A and B.
        bias: none, or [W | b] is one block, or W and b are two.
        dampings: to solve with; None leaves two to ``answers``, of the matrix's own size.
        refused: why there is no answer, or "".
    """

    name: str
    says: str
    a: Float64[np.ndarray, "N T d_in"]
    g: Float64[np.ndarray, "Ng C Tg d_out"]
    counted: Bool[np.ndarray, "Nc Tc"]
    sharing: Sharing
    bias: BiasTreatment
    dampings: tuple[float, ...] | None = None
    refused: str = ""

    @property
    def blocks(self) -> dict[str, slice]:
        """{name of every block: its columns of [W | b]}."""
        d_in = self.a.shape[2]
        if self.bias is BiasTreatment.SEPARATE:
            return {"weight": slice(0, d_in - 1), "bias": slice(d_in - 1, d_in)}
        return {"all": slice(0, d_in)}

    @property
    def silent(self) -> bool:
        """Whether no gradient lives in the null spaces of A and B: expand, or one position."""
        return isinstance(self.sharing, Expand) or self.a.shape[1] == 1
