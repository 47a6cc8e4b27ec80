r"""One pass over the data, added up: what the definitions of A, B, F and Lambda sum over samples.

The oracle of the small problems (``truth/oracle.py``) writes every definition sample by sample;
this is what it says, with the sums in matrix products, so that memory does not depend on N. It
shares nothing with the implementations on trial but the taps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.conformance.own_model.measured.parts import OwnPart
from ekfac_ref.conformance.truth.record import Known
from ekfac_ref.errors import ProblemError
from ekfac_ref.matrix.pieces import pieces
from ekfac_ref.model.session import Kind, open_session
from ekfac_ref.model.tapped import tapped
from ekfac_ref.model.taps import Tap, Taps
from ekfac_ref.model.weights.attention import QUERY_KEY_VALUE
from ekfac_ref.question.batches import CHUNK_BYTES
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand, Sharing

Pair = tuple[Tensor, Tensor]  # (Q_B, Q_A)


@dataclass(frozen=True, eq=False)
class SomeSamples:
    """What one part saw of some samples, in float64.

    Attributes:
        a: inputs, the 1 of the bias last where it is among them.
        g: output gradients of <f_n, s_nc>.
        counted: which positions count; None for all.
        others: (a, counted) of all groups, where they share an A; else of this one.
        new: how many of them come for the first time; none where these are further columns.
    """

    a: Float[Tensor, "N T d_in"]
    g: Float[Tensor, "N C T d_out"]
    counted: Tensor | None
    others: Sequence[tuple[Tensor, Tensor | None]]
    new: int

    def gradients(self) -> Float[Tensor, "N C d_out d_in"]:
        """G_nc = sum_t g_nct a_nt^T."""
        return torch.einsum("ncto,nti->ncoi", self.g, self.a)

    def rotated(
        self, Q_B: Float[Tensor, "d_out r_out"], Q_A: Float[Tensor, "d_in r_in"]
    ) -> Float[Tensor, "N C r_out r_in"]:
        """Q_B^T G_nc Q_A, by whichever order takes fewer multiplications."""
        (d_out, d_in), T = (Q_B.shape[0], Q_A.shape[0]), self.a.shape[1]
        if d_out + d_in > T:
            return torch.einsum("ncto,nti->ncoi", self.g @ Q_B, self.a @ Q_A)
        return Q_B.T @ self.gradients() @ Q_A


def chunks(
    problem: Problem, parts: Sequence[OwnPart], kind: Kind = Known
) -> Iterator[list[SomeSamples]]:
    """One pass: for every part what it saw of some consecutive samples, whatever the dtype.

    So few of them, or of their columns, that the gradients of any part fit into memory. ``kind`` is
    of the session; another one may check the wiring, or have other columns.
    """
    largest = max(d_out * d_in for d_out, d_in in (part.shape for part in parts))
    for new, taps in tapped(open_session(problem, kind), CHUNK_BYTES // 4):
        N, C = next(iter(taps.values()))[0].g.shape[:2]
        for n, c in pieces(N, C, 8 * largest):
            is_new = new > 0 and c.start == 0
            yield [_chunk(part, _of_layer(part.layer, taps), n, c, is_new) for part in parts]


def _of_layer(layer: str, taps: Taps) -> tuple[Tap, ...]:
    """Of one that is packed, of the same inputs and of all g side by side."""
    if layer in taps:
        return taps[layer]
    three = [taps[layer.removesuffix("in_proj") + name][0] for name in QUERY_KEY_VALUE]
    if not all(torch.equal(three[0].a, one.a) for one in three[1:]):
        raise ProblemError(
            f"layer {layer!r}: Packed() is declared, and its query, key and value are not the same "
            "input, so that there is no one A; leave it out, by naming the layers to treat: "
            "Problem(layers=...). (Asked about small layers, ask() has three layers there.)"
        )
    return (replace(three[0], g=torch.cat([one.g for one in three], -1)),)


def _chunk(part: OwnPart, groups: tuple[Tap, ...], n: slice, c: slice, is_new: bool) -> SomeSamples:
    """Of samples n, columns c."""

    def seen(tap: Tap) -> tuple[Tensor, Tensor | None]:
        given = tap.inputs
        a = given[n] if isinstance(given, Tensor) else replace(given, words=given.words[n]).dense()
        return a[..., part.columns].double(), None if tap.counted is None else tap.counted[n]

    own = groups[part.group]
    (a, counted), g = seen(own), own.g[n, c].double()
    others = [seen(tap) for tap in groups] if part.shared else [(a, counted)]
    return SomeSamples(a, g, counted, others, len(a) if is_new else 0)


@dataclass(eq=False)
class FactorTotal:
    """Running sums behind the A and B of one part.

    Attributes:
        A: sum of outer products of input rows; B: of gradient rows.
        rows_a, rows_g, samples: so many of each, so far.
    """

    A: Tensor
    B: Tensor
    rows_a: int = 0
    rows_g: int = 0
    samples: int = 0

    @classmethod
    def none(cls, part: OwnPart) -> "FactorTotal":
        """The sums over no samples yet."""
        d_out, d_in = part.shape
        zeros = torch.zeros((), dtype=torch.float64)
        return cls(zeros.expand(d_in, d_in).clone(), zeros.expand(d_out, d_out).clone())

    def add(self, chunk: SomeSamples, sharing: Sharing) -> None:
        """Add some samples: every position is a row (Expand), or every sample is one (Reduce)."""
        expand = isinstance(sharing, Expand)
        for a, counted in chunk.others if chunk.new else ():
            rows = _positions(a, counted) if expand else _means(a, counted)
            self.A += rows.T @ rows
            self.rows_a += len(rows)
        g = chunk.g.flatten(0, 2) if expand else chunk.g.sum(2).flatten(0, 1)
        self.B += g.T @ g
        self.rows_g += len(g)
        self.samples += chunk.new

    @property
    def factors(self) -> Pair:
        """(B, A): the sums over N, and over the number of input rows."""
        return self.B / self.samples, self.A / max(self.rows_a, 1)


def _positions(a: Tensor, counted: Tensor | None) -> Tensor:
    return a.flatten(0, 1) if counted is None else a[counted]


def _means(a: Tensor, counted: Tensor | None) -> Tensor:
    if counted is None:
        return a.mean(1) if a.shape[1] else a.flatten(0, 1)  # of an expert, maybe none
    kept = counted.any(1)
    total = torch.where(counted[..., None], a, 0.0).sum(1)
    return total[kept] / counted.sum(1)[kept, None]


def factor_totals(
    problem: Problem, parts: Sequence[OwnPart], kind: Kind = Known
) -> list[FactorTotal]:
    """The sums behind every part's factors, over one pass."""
    totals = [FactorTotal.none(part) for part in parts]
    for several in chunks(problem, parts, kind):
        for total, chunk in zip(totals, several, strict=True):
            total.add(chunk, problem.sharing)
    return totals


@dataclass(eq=False)
class SquareTotal:
    """Running sums in the basis of one part.

    Attributes:
        basis: (Q_B, Q_A).
        squares: sum_nc [Q_B^T G_nc Q_A]^2.
        samples: so many, so far.
        terms: sum_nct |g_nct|^2 |a_nt|^2: of the squares of what is summed over positions.
        length: the largest number of positions; columns: N C.
    """

    basis: Pair
    squares: Tensor
    samples: int = 0
    terms: float = 0.0
    length: int = 0
    columns: int = 0

    @classmethod
    def none(cls, basis: Pair) -> "SquareTotal":
        """The sums over no samples yet."""
        Q_B, Q_A = basis
        return cls(basis, Q_B.new_zeros(Q_B.shape[1], Q_A.shape[1]))

    def add(self, chunk: SomeSamples) -> Float[Tensor, "N C r_out r_in"]:
        """Add some samples; returns their rotated gradients."""
        rotated = chunk.rotated(*self.basis)
        self.squares += rotated.square().sum((0, 1))
        self.samples += chunk.new
        self.terms += float((chunk.g.square().sum((1, 3)) * chunk.a.square().sum(2)).sum())
        self.length = max(self.length, chunk.a.shape[1])
        self.columns += chunk.g.shape[0] * chunk.g.shape[1]
        return rotated

    @property
    def eigenvalues(self) -> Float[Tensor, "r_out r_in"]:
        """Lambda = (1/N) sum_nc [Q_B^T G_nc Q_A]^2."""
        return self.squares / self.samples


def glimpse(
    problem: Problem, parts: Sequence[OwnPart], bases: Sequence[Pair], kind: Kind = Known
) -> list[tuple[FactorTotal, SquareTotal]]:
    """Factors and Lambda in bases that are known, over one pass."""
    totals = [(FactorTotal.none(p), SquareTotal.none(Q)) for p, Q in zip(parts, bases, strict=True)]
    for several in chunks(problem, parts, kind):
        for (factors, squares), chunk in zip(totals, several, strict=True):
            factors.add(chunk, problem.sharing)
            squares.add(chunk)
    return totals
