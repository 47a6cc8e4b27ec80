r"""Laws of E and K that products with a few vectors decide, however large the matrices are.

|M V|^2 is |M|^2 in the mean over V with independent entries of mean 0 and variance 1. So whatever a
wrong matrix is off by, X, shows with about |X| in the product with one such V.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.own_law import Weighed, as_own_law, norm, weigh
from ekfac_ref.conformance.own_model.laws.readings import (
    SIGMAS,
    free_of_products,
    left_to_chance,
    off_beside,
    off_of_products,
    signs,
)
from ekfac_ref.conformance.truth.tolerance import MISTAKE, LawBroken

GATE_WIDTH = 0.1  # where a right E may be off by more, relative to |E|, there is no one to compare


@as_own_law("linear", Lane.OPAQUE)
def _linear(one: Examined) -> Iterator[Weighed]:
    """M (U + 2 V) = M U + 2 M V

    So it is of a V in all blocks of a layer: its product is that of every block with its own part.
    """
    U, V, part = one.random(0), one.random(1), one.known.part
    for name, M, size in one.operators:
        parts = M.matvec(U.clone()).double(), M.matvec(V.clone()).double()
        residual = M.matvec(U + 2 * V).double() - parts[0] - 2 * parts[1]
        rounding = 5 * one.product_rounding(size)
        yield weigh(f"{name} (U + 2 V) = {name} U + 2 {name} V", norm(residual), rounding, size)
        if (layer := M.together) is not None:
            alone = M.matvec(part.of(layer.V).clone()).double()
            residual = part.of(layer.product).double() - alone
            law = f"{name} V = that of every block alone, in a V of all blocks of its layer"
            yield weigh(law, norm(residual), rounding, size)


@as_own_law("symmetry", Lane.OPAQUE)
def _symmetry(one: Examined) -> Iterator[Weighed]:
    """<U, M V> = <M U, V>"""
    for name, M, size in one.operators:
        for number in (2, 4):
            U, V = one.random(number), one.random(number + 1)
            left = (U.double() * M.matvec(V.clone()).double()).sum()
            right = (M.matvec(U.clone()).double() * V.double()).sum()
            rounding = 2 * one.product_rounding(size)
            yield weigh(f"<U, {name} V> = <{name} U, V>", abs(float(left - right)), rounding, size)


@as_own_law("own answers", Lane.OPAQUE)
def _own_answers(one: Examined) -> Iterator[Weighed]:
    """matvec(V) leaves V alone, and the next answer leaves this one alone"""
    for name, M, _ in one.operators:
        V = one.random(6)
        given = V.clone()
        answer = M.matvec(given)
        if not torch.equal(given, V):
            raise LawBroken(f"{name}: matvec changed the V that it was given")
        kept = answer.clone()
        M.matvec(-V)
        if not torch.equal(answer, kept):
            raise LawBroken(f"{name}: the next answer was written over the one before")
        yield Weighed(0.0, 0.0)


@as_own_law("spectrum", Lane.EKFAC)
def _spectrum(one: Examined) -> Iterator[Weighed]:
    """S * (Q_B^T E(Q_B S Q_A^T) Q_A) = Lambda with signs S

    In the kit's own eigenvectors of B and A; sums where eigenvalues of these are equal. Of what is
    not compared it notices nothing.
    """
    known = one.known
    right = known.blocks(known.Lambda)
    residual = known.blocks(one.reading.values) - right
    for sums in one.sums:
        off, size = norm(residual[sums.read]), norm(right[sums.read])
        law = "S * (Q_B^T E(Q_B S Q_A^T) Q_A) = Lambda"
        weighed = weigh(law, off, sums.off, size)
        yield replace(weighed, notices=max(weighed.notices, (1 - sums.share) ** 0.5))


@as_own_law("psd", Lane.EKFAC)
def _positive_semidefinite(one: Examined) -> Iterator[Weighed]:
    """v^T E v >= 0

    For v of random numbers, and for one that is made of what ``spectrum`` reads as negative: an
    eigenvector where E commutes with A and B, and else a vector like others. So no semidefinite E
    breaks it, in whatever basis, and one with a negative eigenvalue that shows in r does.
    """
    assert one.E is not None
    vectors = [one.random(7)]
    if (negative := one.reading.values.clamp(max=0)).any():
        S = signs(one.known.part.shape, one.seed)[0] * negative / negative.norm()
        vectors.append((one.known.B.Q @ S @ one.known.A.Q.T).to(one.known.algebra))
    for V in vectors:
        inner = float((V.double() * one.E.matvec(V.clone()).double()).sum())
        yield weigh("<V, E V> >= 0", max(0.0, -inner), one.product_rounding(one.size), one.size)


@as_own_law("trace", Lane.EKFAC)
def _trace(one: Examined) -> Iterator[Weighed]:
    """tr E = tr F = (1/N) sum_nc |G_nc|^2"""
    yield _moment(one, 0, 0)


@as_own_law("moments", Lane.EKFAC)
def _moments(one: Examined) -> Iterator[Weighed]:
    """tr E (B^p (x) A^q) = tr F (B^p (x) A^q), p and q up to 2"""
    for p in range(3):
        for q in range(3):
            yield _moment(one, p, q)


def _moment(one: Examined, p: int, q: int) -> Weighed:
    known = one.known
    b, a = known.B.largest or 1.0, known.A.largest or 1.0
    weights = torch.outer((known.B.values / b) ** p, (known.A.values / a) ** q)
    weights = _even(one, weights)
    right = float((weights * known.Lambda).sum())
    residual = abs(float((weights * one.reading.values).sum()) - right)
    noise = one.product_rounding(one.size) * float(weights.norm()) / weights.numel() ** 0.5
    factors = p * known.B.off / b + q * known.A.off / a
    rounding = known.off_trace + off_beside(known, weights) + noise + factors * right
    rounding += one.reading.chance(weights)
    law = "tr E = tr F" if p == q == 0 else f"tr E (B^{p} (x) A^{q}) = tr F (B^{p} (x) A^{q})"
    return weigh(law, residual, rounding, abs(right))


def _even(one: Examined, weights: Tensor) -> Tensor:
    """The mean over every block of equal eigenvalues."""
    known = one.known
    mean = known.blocks(weights) / known.blocks(torch.ones_like(weights))
    return mean[known.B.cluster][:, known.A.cluster]


@as_own_law("commutes", Lane.EKFAC)
def _commutes(one: Examined) -> Iterator[Weighed]:
    """E (B V) = B E V and E (V A) = (E V) A"""
    assert one.E is not None
    V, known = one.random(8), one.known
    E, image = one.E.matvec, one.E.matvec(V.clone()).double()
    for side, factor in (("B", known.B), ("A", known.A)):
        M = factor.factor
        given = (M @ V.double() if side == "B" else V.double() @ M).to(known.algebra)
        right = M @ image if side == "B" else image @ M
        residual = norm(E(given).double() - right)
        rounding = 2 * one.size * factor.off + 2 * one.product_rounding(one.size) * factor.largest
        law = "E (B V) = B E V" if side == "B" else "E (V A) = (E V) A"
        yield weigh(law, residual, rounding, norm(right))


@as_own_law("self-projection", Lane.EKFAC)
def _self_projection(one: Examined) -> Iterator[Weighed]:
    """tr E F = |E|^2

    By <G_nc, E G_nc>, where these are few. What stands beside the diagonal of M moves the squares
    |M s|^2 by up to 2 |M| of that.
    """
    if one.inner is None:
        return
    known, square = one.known, one.reading.square
    uneven = float((left_to_chance(known) / 2).sum() + (known.turned**2).sum()) ** 0.5
    chance = SIGMAS / MISTAKE * 2**1.5 * float(known.Lambda.amax()) * uneven
    off = known.off + one.product_rounding(one.size) + float(known.turned.norm())
    rounding = 2 * one.size * (off + one.reading.chance(torch.ones_like(known.Lambda)))
    law = "tr E F = |E|^2"
    yield weigh(law, abs(one.inner - square), rounding + chance, known.size**2)


@as_own_law("kernel", Lane.EKFAC)
def _kernel(one: Examined) -> Iterator[Weighed]:
    """E v = 0 where A or B has no direction of v, hence F v = 0"""
    known = one.known
    null = known.B.is_zero[:, None] | known.A.is_zero
    if not known.silent or not bool(null.any()):
        return
    assert one.E is not None
    S = signs(known.part.shape, one.seed)[0] * null
    V = known.B.Q @ S @ known.A.Q.T
    image = one.E.matvec(V.to(known.algebra))
    right = float((null * known.Lambda).norm()) + known.off
    rounding = right + float((null * known.turned).norm()) + one.product_rounding(one.size)
    yield weigh("E v = 0 in the null space of B (x) A", norm(image), rounding, known.size)


@as_own_law("comparison", Lane.EKFAC)
def _comparison(one: Examined) -> Iterator[Weighed]:
    """E V = Q ((Q^T V) * Lambda) where the eigengaps of A and B leave one Q"""
    assert one.E is not None
    V, known = one.random(9), one.known
    rounding = off_of_products(known) + one.product_rounding(known.size)
    free = free_of_products(known)
    if free + MISTAKE * rounding > GATE_WIDTH * known.size:
        return
    residual = one.E.matvec(V.clone()).double() - known.product(V.double())
    yield weigh("E V = that of the definition", norm(residual), rounding, known.size, free)


PRODUCT_LAWS = (
    *(_linear, _own_answers, _symmetry, _positive_semidefinite),
    *(_trace, _commutes, _moments, _spectrum, _self_projection, _kernel, _comparison),
)
