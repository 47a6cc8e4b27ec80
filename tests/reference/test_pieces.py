"""Gradients a few at a time: every sample and column once, and never too many."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ekfac_ref.matrix import pieces as module
from ekfac_ref.matrix.ekfac import squares_from_gradients, squares_from_taps
from ekfac_ref.matrix.outer_products import Stack, add_outer_products
from ekfac_ref.matrix.pieces import pieces

SIZES = st.integers(1, 7)


@given(N=SIZES, C=SIZES, size=SIZES, room=st.integers(0, 200))
def test_every_gradient_is_in_one_piece(N: int, C: int, size: int, room: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "AT_ONCE", room)
        found = [*pieces(N, C, size)]
    times = torch.zeros(N, C)
    for samples, columns in found:
        times[samples, columns] += 1
        taken = times[samples, columns].numel()
        assert taken * size <= max(room, size)
        assert taken % C == 0 or len(times[samples]) == 1
    assert bool((times == 1).all())
    assert len(found) <= 2 * max(1, N * C * size // max(room, size)) + N


@pytest.mark.parametrize("T", [2, 60])  # rotated before and after they are summed over positions
@pytest.mark.parametrize("room", [0, 8 * 12 * 3, 8 * 12 * 10])
def test_squares_of_pieces_are_those_of_all(
    T: int, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", room)
    a, g = torch.randn(5, T, 4).double(), torch.randn(5, 4, T, 3).double()
    Q_B, Q_A = torch.randn(3, 3).double(), torch.randn(4, 2).double()
    before = a.clone(), g.clone()
    G = torch.einsum("ncto,nti->ncoi", g, a)
    torch.testing.assert_close(
        squares_from_taps(a, g, Q_B, Q_A), squares_from_gradients(G, Q_B, Q_A)
    )
    assert torch.equal(a, before[0])
    assert torch.equal(g, before[1])


@pytest.mark.parametrize("d", [1, 128, 129, 131, 300])  # in one strip, and in four
def test_strips_of_a_sum_of_outer_products(d: int) -> None:
    """Those of all rows, added to what is there, in its own memory."""
    rows, more = torch.randn(2, 50, d, dtype=torch.float64)
    total = Stack(rows).gram()
    torch.testing.assert_close(total, rows.T @ rows)
    assert add_outer_products(total, more) is total
    torch.testing.assert_close(total, rows.T @ rows + more.T @ more)
    torch.testing.assert_close(Stack(rows).mean(50), torch.einsum("ri,rj->ij", rows, rows) / 50)
