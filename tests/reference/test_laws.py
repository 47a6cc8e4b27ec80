"""The laws on networks that Hypothesis draws.

First those of every block, F, KFAC and EKFAC: symmetric, positive semidefinite, exact for one
sample, turning with the data. Then what each of the three is by its definition.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ekfac_ref as ek
from ekfac_ref.conformance.problems.strategies import Drawn, problems
from ekfac_ref.conformance.truth.tolerance import LIMIT
from tests.support import by_hand, laws
from tests.support.ask import answers, ekfac_of, kfac_of
from tests.support.strategies import (
    fills,
    one_position_families,
    orthogonal_matrix,
    sharings,
    sizes_by_hand,
)

pytestmark = pytest.mark.shapes

fishers = st.sampled_from([ek.Exact(), ek.Empirical(), ek.Sampled(draws=2, seed=1)])


@given(problems(), fishers, sharings)
def test_symmetry(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        for operator in (answer.F, answer.K, answer.E):
            laws.symmetry(operator, answer.seen)


@given(problems(), fishers, sharings)
def test_psd(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        for operator in (answer.F, answer.K, answer.E):
            laws.psd(operator, answer.seen)


@given(problems(one_position_families, one_sample=True), fishers, sharings)
def test_batch_of_one_exact(drawn: Drawn, fisher, sharing) -> None:
    """N = 1 and T = 1: KFAC and EKFAC are F, with any number of columns."""
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.is_fisher(answer.K, answer.seen)
        laws.is_fisher(answer.E, answer.seen)


@given(fills, sizes_by_hand, sharings, st.data())
def test_rotation_invariance(fill, sizes, sharing, data) -> None:
    """Orthogonal maps of a layer's inputs and outputs turn F, KFAC and EKFAC along."""
    before = by_hand.generic(fill, sharing, *sizes)
    (d_out, d_in) = sizes[-1]
    U, R = data.draw(orthogonal_matrix(d_out)), data.draw(orthogonal_matrix(d_in))
    after = by_hand.rotated(before, U, R)
    assert laws.turned(kfac_of(before), kfac_of(after), U, R, before) <= LIMIT
    laws.ekfac_turned(ekfac_of(before), ekfac_of(after), U, R, before, after)


# What each of them is.


@given(problems(), fishers, sharings)
def test_gradient_is_sum_over_positions(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.gradient_is_sum_over_positions(answer.seen)


@given(problems(), fishers, sharings)
def test_exact_block_by_definition(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.is_fisher(answer.F, answer.seen)


@given(problems(), fishers, sharings)
def test_factors_by_definition(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.factors_by_definition(answer.K, answer.seen)


@given(problems(), fishers, sharings)
def test_trace(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.trace(answer.E, answer.seen)


@given(problems(), fishers, sharings)
def test_eigenvalues_are_the_diagonal(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.eigenvalues_are_the_diagonal(answer.E, answer.seen)


@given(problems(), fishers, sharings)
def test_basis(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.basis_is_orthonormal(answer.E, answer.seen)
        laws.basis_diagonalizes_the_factors(answer.E, answer.seen)


@given(problems(), fishers, sharings)
def test_opaque_laws(drawn: Drawn, fisher, sharing) -> None:
    """Those that need no eigenvectors."""
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.commutes(answer.E, answer.seen)
        laws.moments(answer.E, answer.seen)
        laws.self_projection(answer.E, answer.seen)
        laws.majorisation(answer.E, answer.seen)


@given(problems(), fishers, sharings)
def test_not_further_than_kfac(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        laws.not_further_than_kfac(answer.E, answer.K, answer.seen)
        laws.pythagoras(answer.E, answer.seen)


@given(problems(), fishers, sharings, st.sampled_from([1e-12, 1e-3, 1.0]), st.integers(0, 99))
def test_solve(drawn: Drawn, fisher, sharing, damping, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    for answer in answers(drawn.problem(fisher, sharing)):
        V = torch.randn(answer.E.shape, generator=generator).to(answer.seen.dtype)
        for operator in (answer.F, answer.K, answer.E):
            laws.solves(operator, V, damping, answer.seen)


@given(problems(), fishers, sharings)
def test_dense_is_matvec(drawn: Drawn, fisher, sharing) -> None:
    for answer in answers(drawn.problem(fisher, sharing)):
        for operator in (answer.F, answer.K, answer.E):
            laws.dense_is_matvec(operator, answer.seen)


@given(fills, sizes_by_hand, sharings)
def test_kfac_follows_every_invertible_map_of_the_inputs(fill, sizes, sharing) -> None:
    before = by_hand.generic(fill, sharing, *sizes)
    (d_out, d_in) = sizes[-1]
    U = torch.eye(d_out, dtype=torch.float64) * 2
    R = torch.eye(d_in, dtype=torch.float64) + torch.ones(d_in, d_in).double().triu()
    after = by_hand.rotated(before, U, R)
    assert laws.turned(kfac_of(before), kfac_of(after), U, R, before) <= LIMIT


@given(fills, sizes_by_hand, sharings, st.data())
def test_columns_may_be_rotated(fill, sizes, sharing, data) -> None:
    """S_n -> S_n U_n leaves every matrix alone: only S S^T is defined."""
    seen = by_hand.generic(fill, sharing, *sizes)
    U = data.draw(orthogonal_matrix(len(seen.g[0])))
    other = by_hand.observation(
        seen.a, [torch.einsum("dc,cto->dto", U, g) for g in seen.g], sharing
    )
    assert laws.unchanged(kfac_of(seen), kfac_of(other), seen) <= LIMIT
    laws.ekfac_unchanged(ekfac_of(seen), ekfac_of(other), seen)


@pytest.mark.parametrize("what", ["reversed", "duplicated"])
@given(fill=fills, sizes=sizes_by_hand, sharing=sharings)
def test_order_and_duplication(what: str, fill, sizes, sharing) -> None:
    seen = by_hand.generic(fill, sharing, *sizes)
    a, g = seen.a, seen.g
    again = (a[::-1], g[::-1]) if what == "reversed" else (a + a, g + g)
    other = by_hand.observation(*again, sharing)
    assert laws.unchanged(kfac_of(seen), kfac_of(other), seen) <= LIMIT
    laws.ekfac_unchanged(ekfac_of(seen), ekfac_of(other), seen)
