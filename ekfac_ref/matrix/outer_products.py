"""Sums of outer products of rows that come in chunks, in memory that does not grow with them.

As long as there are fewer than d rows they are kept as they are, since they span the few directions
that matter, found at less cost than the eigenvectors of their d x d sum (``ekfac.eigenbasis``);
beyond that only the sum is kept.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

STRIPS = 4  # five eighths of the multiplications
SMALL = 128  # and as fast in one


@dataclass(frozen=True, eq=False)
class Stack:
    """Fewer than d rows, all of them."""

    rows: Float[Tensor, "r d"]

    def gram(self) -> Float[Tensor, "d d"]:
        """The sum of row^T row over all rows, not divided by anything."""
        d = self.rows.shape[1]
        return add_outer_products(self.rows.new_empty(d, d), self.rows, beta=0)

    def mean(self, count: int) -> Float[Tensor, "d d"]:
        """That sum, divided by the number ``count``."""
        return self.gram().div_(count)


@dataclass(frozen=True, eq=False)
class Gram:
    """The sum of the outer products of any number of rows."""

    matrix: Float[Tensor, "d d"]

    def gram(self) -> Float[Tensor, "d d"]:
        """The sum of row^T row over all rows, not divided by anything."""
        return self.matrix

    def mean(self, count: int) -> Float[Tensor, "d d"]:
        """That sum, divided by the number ``count``."""
        return self.matrix / count


def join(one: Stack | Gram, two: Stack | Gram) -> Stack | Gram:
    """The rows of both, or the sum over both."""
    if isinstance(one, Stack) and isinstance(two, Stack):
        return compact(Stack(torch.cat([one.rows, two.rows])))
    if isinstance(one, Gram) and isinstance(two, Stack):
        return Gram(add_outer_products(one.matrix, two.rows))  # a sum of its own
    return Gram(one.gram() + two.gram())


def compact(stack: Stack) -> Stack | Gram:
    """Rows as long as there are fewer than d, else their sum."""
    r, d = stack.rows.shape
    return stack if r < d else Gram(stack.gram())


def add_outer_products(
    matrix: Float[Tensor, "d d"], rows: Float[Tensor, "r d"], beta: int = 1
) -> Float[Tensor, "d d"]:
    """beta times a symmetric matrix and row^T row over all rows, in the matrix' own memory.

    Where beta is 0, what was in there does not matter, as in ``torch.addmm``.

    Strip by strip, each from the diagonal on: what is left of it mirrors what is above.
    """
    d = len(matrix)
    strips = STRIPS if d > SMALL else 1
    for k in range(strips):
        start, stop = d * k // strips, d * (k + 1) // strips
        matrix[start:stop, start:].addmm_(rows[:, start:stop].T, rows[:, start:], beta=beta)
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
    return matrix
