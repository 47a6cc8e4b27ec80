r"""The mean of products replaced by the product of means: F ~ B (x) A.

A and B are mean outer products of rows; ``sharing.py`` says which rows and which means. Rows come
in chunks, whose sums add up (``outer_products.py``).

Sources: Martens & Grosse 2015 (1503.05671), Grosse & Martens 2016 (1602.01407).
"""

from dataclasses import dataclass

from ekfac_ref.matrix.lookup import LookupKronecker
from ekfac_ref.matrix.operators import Kronecker
from ekfac_ref.matrix.outer_products import Gram, Stack, compact, join
from ekfac_ref.matrix.words import Counts
from ekfac_ref.question.one_hot import LARGE_VOCABULARY, OneHot
from ekfac_ref.question.sharing import Rows


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
        return FactorSums(Counts.of(rows.a), compact(g), len(rows.a.words), samples)
    a = Stack(rows.a)
    if not rows.complete:
        return FactorSums(Gram(a.gram()), Gram(g.gram()), len(rows.a), samples)
    return FactorSums(compact(a), compact(g), len(rows.a), samples)


def add(one: FactorSums, two: FactorSums) -> FactorSums:
    """The sums over two chunks together."""
    g = join(one.g, two.g)
    if isinstance(one.a, Counts) and isinstance(two.a, Counts):
        return FactorSums(one.a.plus(two.a), g, one.rows_a + two.rows_a, one.samples + two.samples)
    a = join(*(Gram(x.gram()) if isinstance(x, Counts) else x for x in (one.a, two.a)))
    return FactorSums(a, g, one.rows_a + two.rows_a, one.samples + two.samples)


def kronecker(factors: FactorSums) -> Kronecker | LookupKronecker:
    """KFAC's block: B = (1/N) sum over gradient rows, A = mean over input rows."""
    B = factors.g.mean(factors.samples)
    if isinstance(factors.a, Counts):
        words, counts = factors.a.seen, factors.a.counts
        frequencies = counts[words].to(B) / factors.rows_a
        lookup = LookupKronecker(B, words, frequencies, len(counts))
        return lookup if len(counts) > LARGE_VOCABULARY else lookup.written_out()
    return Kronecker(B, A=factors.a.mean(factors.rows_a))
