"""Lambda by its definition and by its fast form, in both orders of contraction, thin or not."""

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ekfac_ref as ek
from ekfac_ref.matrix.ekfac import eigenbasis, squares_from_gradients, squares_from_taps
from ekfac_ref.matrix.kfac import add, chunk_factors
from ekfac_ref.matrix.outer_products import Gram, Stack
from tests.support.strategies import fills

pytestmark = pytest.mark.shapes

small = st.integers(1, 4)


@given(fills, small, st.sampled_from([1, 2, 5]), small, small, small, st.data())
def test_fast_form_is_the_definition(fill, N, T, C, d_out, d_in, data) -> None:
    a, g = fill(N, T, d_in), fill(N, C, T, d_out)
    G = torch.einsum("ncto,nti->ncoi", g, a)
    r_out, r_in = data.draw(st.integers(1, d_out)), data.draw(st.integers(1, d_in))
    Q_B = torch.linalg.qr(fill(d_out, d_out) + 9 * torch.eye(d_out))[0][:, :r_out]
    Q_A = torch.linalg.qr(fill(d_in, d_in) + 9 * torch.eye(d_in))[0][:, :r_in]
    expected = squares_from_gradients(G, Q_B, Q_A)
    torch.testing.assert_close(squares_from_taps(a, g, Q_B, Q_A), expected)


@pytest.mark.parametrize("rotate_first", [True, False])
def test_both_orders_of_contraction(monkeypatch: pytest.MonkeyPatch, rotate_first: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    a, g = (torch.randn(*s, generator=generator).double() for s in ((3, 4, 5), (3, 2, 4, 6)))
    Q_B, Q_A = (torch.linalg.qr(torch.randn(d, d, generator=generator).double())[0] for d in (6, 5))
    file = sys.modules["ekfac_ref.matrix.ekfac"]
    monkeypatch.setattr(file, "_rotating_first_is_cheaper", lambda *_: rotate_first)
    expected = sum(
        (Q_B.T @ torch.einsum("to,ti->oi", g[n, c], a[n]) @ Q_A) ** 2
        for n in range(3)
        for c in range(2)
    )
    torch.testing.assert_close(squares_from_taps(a, g, Q_B, Q_A), expected)


def test_few_rows_stay_rows_and_their_basis_is_thin() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(3, 1, 5, generator=generator).double()
    g = torch.randn(3, 1, 1, 2, generator=generator).double()
    factors = chunk_factors(ek.Expand().rows(a, g, None), 3)
    assert isinstance(factors.a, Stack)
    assert isinstance(factors.g, Gram)
    assert eigenbasis(factors.a).shape == (5, 3)
    more = add(factors, factors)
    assert isinstance(more.a, Gram)
    torch.testing.assert_close(more.a.gram(), 2 * a[:, 0].T @ a[:, 0])


def test_reduced_rows_of_several_positions_are_never_thin() -> None:
    """Their span does not hold the gradients: a thin basis would lose part of the trace."""
    a, g = torch.randn(2, 3, 9).double(), torch.randn(2, 1, 3, 9).double()
    factors = chunk_factors(ek.Reduce().rows(a, g, None), 2)
    assert isinstance(factors.a, Gram)
    assert isinstance(factors.g, Gram)
    single = chunk_factors(ek.Reduce().rows(a[:, :1], g[:, :, :1], None), 2)
    assert isinstance(single.a, Stack)
    assert isinstance(add(single, factors).a, Gram)
