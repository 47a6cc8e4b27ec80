"""What was seen of some samples, added up with any weights of samples and of columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vector_norm

from ekfac_ref.question.one_hot import OneHot

_STRIP = 32  # columns of which squares are taken at once


@dataclass(frozen=True)
class Sum:
    """A sum of matrices [W | b], of which little is asked.

    Attributes:
        total: ``weight_and_bias`` of the sum of the terms divided by ``unit``, the rows of all
            groups one below the other.
        squares: the sum of the squares of all terms divided by ``unit``, of all columns but the
            last, and of the last, which is the bias where there is one.
        unit: 1, unless squares would overflow or vanish.
    """

    total: Float[Tensor, "d_out k"]
    squares: Float[Tensor, "2"]
    unit: float


def added(sums: Sequence[Sum]) -> Sum:
    """The sum over several, of other samples each."""
    unit = max(one.unit for one in sums)
    shares = [one.unit / unit for one in sums]
    pairs = list(zip(sums, shares, strict=True))
    total = torch.stack([one.total * share for one, share in pairs]).sum(0)
    squares = torch.stack([one.squares * share**2 for one, share in pairs]).sum(0)
    return Sum(total, squares, unit)


@dataclass(frozen=True)
class Seen:
    """What was seen of some samples.

    Attributes:
        S: the Fisher's columns for their outputs, held constant.
        weighted: {layer: from r [N], w [C] and x, see ``weight_and_bias``, to that of the sum
            over n and c of r_n w_c G_nc}.
        roundoff: of the coarsest dtype that the forward rounds to, autocast's say.
        gradients: of <f, ``combined``(S)> by the graph that was recorded, if it was asked for.
    """

    S: Float[Tensor, "N C *out"]
    weighted: Mapping[str, Callable[[Tensor, Tensor, Tensor], Sum]]
    roundoff: float
    gradients: Mapping[str, Tensor] | None = None

    @classmethod
    def of_samples(cls, apart: Sequence["Seen"]) -> "Seen":
        """What was seen of samples that were run one after another."""

        def weighted(name: str, r: Tensor, w: Tensor, x: Tensor) -> Sum:
            pairs = zip(apart, r.split([len(one.S) for one in apart]), strict=True)
            return added([one.weighted[name](r_n, w, x) for one, r_n in pairs])

        by_layer = {name: partial(weighted, name) for name in apart[0].weighted}
        S = torch.cat([one.S for one in apart])
        return cls(S, by_layer, max(one.roundoff for one in apart))


def weights(S: Float[Tensor, "N C *out"]) -> list[Tensor]:
    """r [N] and w [C], for these columns; the caller's random numbers stay where they are.

    A column that is the only one has the weight 1, by which nothing need be multiplied.
    """
    N, C = S.shape[:2]
    return [any_numbers(N, 0).to(S), any_numbers(C, 1).to(S) if C > 1 else S.new_ones(C)]


def combined(S: Float[Tensor, "N C *out"]) -> Float[Tensor, "N *out"]:
    """The sum over c of r_n w_c s_nc."""
    r, w = weights(S)
    N, C, *out = S.shape
    of_samples = S[:, 0] if C == 1 else (w @ S.reshape(N, C, -1)).reshape(N, *out)
    return _by_sample(of_samples, r)


@lru_cache(64)
def any_numbers(size: int, seed: int) -> Float[Tensor, " size"]:
    """Of both signs, their absolute values between 1/2 and 1."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.rand(size, generator=drawn, dtype=torch.float64, device="cpu") - 0.5
    return x + 0.5 * x.sign()


def weight_and_bias(rows: Float[Tensor, "*axes d_in"], x: Float[Tensor, " d"]) -> list[Tensor]:
    """Rows of [W | b] as two numbers each: W times the vector, and b, where d_in = d + 1."""
    axes = rows.shape[:-1]
    times = rows.reshape(-1, rows.shape[-1])[:, : len(x)] @ x  # one product, whatever the strides
    return [times.reshape(axes), *rows[..., len(x) :].unbind(-1)]


def of_taps(
    by_group: Sequence[tuple[Tensor | OneHot, Tensor]], r: Tensor, w: Tensor, x: Tensor
) -> Sum:
    """sum_nct r_n w_c g_nct a_nt^T, from (a [N, T, d_in], g [N, C, T, d_out]) of every group.

    Without a product of matrices, since a^T x is a number.
    """
    a, g = by_group[0]
    r, w, x = (y.to(g) for y in (r, w, x))  # the outputs may have another dtype
    if isinstance(a, OneHot):
        return _of_words(a, g, r, w, x)
    return _of_rows(
        _side_by_side([a for a, _ in by_group if isinstance(a, Tensor)]),
        _side_by_side([g for _, g in by_group]),
        *(r, w, x),
    )


def _side_by_side(of_groups: list[Tensor]) -> Float[Tensor, "*axes groups d"]:
    """Without a copy, if there is one group."""
    return of_groups[0].unsqueeze(-2) if len(of_groups) == 1 else torch.stack(of_groups, -2)


def _of_words(a: OneHot, g: Float[Tensor, "N C T d_out"], r: Tensor, w: Tensor, x: Tensor) -> Sum:
    """The entries of x that belong to the words."""
    words = a.words.flatten()
    known = words >= 0

    def in_units(unit: float) -> Sum:
        g_o = _by_sample(_of_columns(g, w / unit), r).flatten(0, 1)[known]
        total = g_o.T @ x[words[known]]
        squares = g_o.new_zeros(a.size).index_add_(0, words[known], g_o.square().sum(1))
        return Sum(total[:, None], _but_the_last(squares), unit)

    plain = in_units(1.0)
    return plain if _has_room(plain) else in_units(*_largest(g))


def _of_rows(
    a: Float[Tensor, "N T groups d_in"],
    g: Float[Tensor, "N C T groups d_out"],
    r: Tensor,
    w: Tensor,
    x: Tensor,
) -> Sum:
    def in_units(unit_a: float, unit_g: float) -> Sum:
        a_i = a if unit_a == 1 else a / unit_a
        g_o = _of_columns(g, w / unit_g)
        # Sample by sample, for a long sum that is added up term by term is off by more.
        of_samples = [torch.einsum("ntlo,ntl->nlo", g_o, y) for y in weight_and_bias(a_i, x)]
        total = [_by_sample(of, r).sum(0).flatten() for of in of_samples]
        of_g, *of_a = map(_squared_lengths, (g_o, a_i[..., :-1], a_i[..., -1:]))
        squares = torch.stack([_by_sample(of_g * y, r.square()).sum() for y in of_a])
        return Sum(torch.stack(total, 1), squares, unit_a * unit_g)

    plain = in_units(1.0, 1.0)
    return plain if _has_room(plain) else in_units(*_largest(a, g))


def of_gradients(G: Float[Tensor, "N C d_out d_in"], r: Tensor, w: Tensor, x: Tensor) -> Sum:
    """sum_nc r_n w_c G_nc, from the G_nc themselves."""
    r, w, x = (y.to(G) for y in (r, w, x))

    def in_units(unit: float) -> Sum:
        G_i = G if unit == 1 else G / unit
        squares = G_i.square().sum((0, 1, 2))
        total = [_by_sample(_of_columns(y, w), r).sum(0) for y in weight_and_bias(G_i, x)]
        return Sum(torch.stack(total, 1), _but_the_last(squares), unit)

    plain = in_units(1.0)
    return plain if _has_room(plain) else in_units(*_largest(G))


def _squared_lengths(rows: Float[Tensor, "*axes d"]) -> Float[Tensor, "*axes"]:
    """|row|^2, whichever axis is contiguous: squares of all entries would be another copy."""
    if rows.stride(-1) == 1:
        return vector_norm(rows, dim=-1).square_()
    total = rows.new_zeros(rows.shape[:-1])
    for strip in rows.split(_STRIP, -1):
        total += strip.square().sum(-1)
    return total


def _but_the_last(by_column: Float[Tensor, " d_in"]) -> Float[Tensor, "2"]:
    return torch.stack([by_column[:-1].sum(), by_column[-1]])


def _of_columns(x: Float[Tensor, "N C *out"], w: Tensor) -> Float[Tensor, "N *out"]:
    """sum_c w_c x_nc: column by column, for x is large and comes in any order of axes."""
    if w.tolist() == [1.0]:
        return x[:, 0]
    total = x.new_zeros(()).expand_as(x[:, 0]).clone()
    for c, w_c in enumerate(w.tolist()):
        total.add_(x[:, c], alpha=w_c)
    return total


def _by_sample(x: Float[Tensor, "N *out"], r: Tensor) -> Float[Tensor, "N *out"]:
    """r_n x_n: every sample times its weight."""
    return x * r.reshape(-1, *[1] * (x.dim() - 1))


def _has_room(plain: Sum) -> bool:
    """Whether its squares are far from overflow and from zero."""
    limits = torch.finfo(plain.squares.dtype)
    return limits.tiny < float(plain.squares.sum()) * limits.eps**2 < limits.max


def _largest(*factors: Tensor) -> list[float]:
    """The largest absolute value in each, NaN if there is any; or 1 where the product of those is
    next to nothing, below the normal numbers.
    """
    sizes = [
        float(torch.stack(torch.aminmax(x)).abs().amax()) if x.numel() else 0.0 for x in factors
    ]
    smallest = torch.finfo(factors[0].dtype).tiny
    return [1.0] * len(sizes) if prod(sizes) <= smallest else sizes
