r"""The mean of products replaced by the product of means: F ~ B (x) A.

A and B are mean outer products of rows; ``sharing.py`` says which rows and which means. Rows come
in chunks. As long as there are fewer than d of them they are kept as they are, since they span the
few directions that matter, found at less cost than the eigenvectors of their d x d sum
(``ekfac.eigenbasis``); beyond that only the sum is kept. So memory does not grow with N.

Sources: Martens & Grosse 2015 (1503.05671), Grosse & Martens 2016 (1602.01407).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.matrix.lookup import LookupKronecker
from ekfac_ref.matrix.operators import Kronecker
from ekfac_ref.matrix.words import Counts
from ekfac_ref.question.one_hot import LARGE_VOCABULARY, OneHot
from ekfac_ref.question.sharing import Rows


@dataclass(frozen=True, eq=False)
class Stack:
    """Fewer than d rows, all of them."""

    rows: Float[Tensor, "r d"]

    def gram(self) -> Float[Tensor, "d d"]:
        """The sum of row^T row over all rows, not divided by anything."""
        return self.rows.T @ self.rows


@dataclass(frozen=True, eq=False)
class Gram:
    """The sum of the outer products of any number of rows."""

    matrix: Float[Tensor, "d d"]

    def gram(self) -> Float[Tensor, "d d"]:
        """The sum of row^T row over all rows, not divided by anything."""
        return self.matrix


@dataclass(frozen=True, eq=False)
class FactorSums:
    """The running sums behind A and B of one layer.

    Attributes:
        a: of input rows; A is its gram over ``rows_a``.
        g: of gradient rows; B is its gram over ``samples``.
        rows_a: rows so far: M positions (Expand) or N+ samples (Reduce).
        samples: N so far.
    """

    a: Stack | Gram | Counts
    g: Stack | Gram
    rows_a: int
    samples: int


def chunk_factors(rows: Rows, samples: int) -> FactorSums:
    """The sums over one chunk: of so many samples, or of more columns of the same, if it is 0."""
    rows = rows if samples else rows.of_no_inputs()
    g = Stack(rows.g)
    if isinstance(rows.a, OneHot):
        return FactorSums(Counts.of(rows.a), _compact(g), len(rows.a.words), samples)
    a = Stack(rows.a)
    if not rows.complete:
        return FactorSums(Gram(a.gram()), Gram(g.gram()), len(rows.a), samples)
    return FactorSums(_compact(a), _compact(g), len(rows.a), samples)


def add(one: FactorSums, two: FactorSums) -> FactorSums:
    """The sums over two chunks together."""
    g = _join(one.g, two.g)
    if isinstance(one.a, Counts) and isinstance(two.a, Counts):
        return FactorSums(one.a.plus(two.a), g, one.rows_a + two.rows_a, one.samples + two.samples)
    a = _join(*(Gram(x.gram()) if isinstance(x, Counts) else x for x in (one.a, two.a)))
    return FactorSums(a, g, one.rows_a + two.rows_a, one.samples + two.samples)


def kronecker(factors: FactorSums) -> Kronecker | LookupKronecker:
    """KFAC's block: B = (1/N) sum over gradient rows, A = mean over input rows."""
    B = factors.g.gram() / factors.samples
    if isinstance(factors.a, Counts):
        words, counts = factors.a.seen, factors.a.counts
        frequencies = counts[words].to(B) / factors.rows_a
        lookup = LookupKronecker(B, words, frequencies, len(counts))
        return lookup if len(counts) > LARGE_VOCABULARY else lookup.written_out()
    return Kronecker(B, A=factors.a.gram() / factors.rows_a)


def _join(one: Stack | Gram, two: Stack | Gram) -> Stack | Gram:
    if isinstance(one, Stack) and isinstance(two, Stack):
        return _compact(Stack(torch.cat([one.rows, two.rows])))
    if isinstance(one, Gram) and isinstance(two, Stack):
        return Gram(one.matrix.addmm_(two.rows.T, two.rows))  # a sum of this file's own
    return Gram(one.gram() + two.gram())


def _compact(stack: Stack) -> Stack | Gram:
    r, d = stack.rows.shape
    return stack if r < d else Gram(stack.gram())
