r"""The exact block: the mean outer product of the gradients.

F = (1/N) sum_n sum_c vec(G_nc) vec(G_nc)^T, vec stacking rows of [W | b].
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ekfac_ref.errors import ProblemError


def sum_of_outer_products(G: Float[Tensor, "N C d_out d_in"]) -> Float[Tensor, "P P"]:
    """sum_nc vec(G_nc) vec(G_nc)^T: N F, so that chunks of samples can be added."""
    rows = G.flatten(2).flatten(0, 1)
    return rows.T @ rows


@dataclass(frozen=True, eq=False)
class FullFisher:
    """The Fisher of all layers together, the blocks between layers and between groups included.

    Attributes:
        matrix: (1/N) sum_nc v_nc v_nc^T, v_nc the vec(G_nc) of all layers one behind the other.
        shapes: {layer: (d_out, d_in)} in that order.
    """

    matrix: Float[Tensor, "total total"]
    shapes: dict[str, tuple[int, int]]

    def block(self, row_layer: str, column_layer: str) -> Float[Tensor, "P_row P_column"]:
        """(1/N) sum_nc vec(G_nc of row_layer) vec(G_nc of column_layer)^T."""
        return self.matrix[self._span(row_layer), self._span(column_layer)]

    def _span(self, name: str) -> slice:
        if name not in self.shapes:
            raise ProblemError(
                f"layer {name!r}: the full Fisher has no such layer; choose among "
                f"{list(self.shapes)}."
            )
        sizes = {layer: d_out * d_in for layer, (d_out, d_in) in self.shapes.items()}
        start = sum(size for layer, size in list(sizes.items())[: list(sizes).index(name)])
        return slice(start, start + sizes[name])
