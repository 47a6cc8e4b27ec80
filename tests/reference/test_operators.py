"""The operators against dense linear algebra, down to damping of 1e-12 and thin bases."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ekfac_ref as ek
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.matrix.operators import BlockDiagonal
from tests.support.strategies import fills

pytestmark = pytest.mark.shapes

small = st.integers(1, 4)


def psd(fill, d: int) -> torch.Tensor:
    rows = fill(d + 1, d)
    return rows.T @ rows / (d + 1)


def orthonormal(fill, d: int, r: int) -> torch.Tensor:
    columns = fill(d, d) + 3 * torch.eye(d).double()
    return torch.linalg.qr(columns)[0][:, :r]


@st.composite
def operators(draw) -> ek.Operator:
    """One of each kind, thin bases among them."""
    fill, o, i = draw(fills), draw(small), draw(small)
    r_o, r_i = draw(st.integers(1, o)), draw(st.integers(1, i))
    Q = orthonormal(fill, o, r_o), orthonormal(fill, i, r_i)
    one = draw(
        st.sampled_from(
            [
                ek.Dense(psd(fill, o * i), (o, i)),
                ek.Kronecker(psd(fill, o), psd(fill, i)),
                ek.EigenKronecker(*Q, fill(r_o, r_i).square()),
            ]
        )
    )
    return BlockDiagonal((one, one.scaled(2.0))) if draw(st.booleans()) else one


@given(operators(), fills, st.sampled_from([1e-12, 1e-3, 2.0]))
def test_every_answer_is_that_of_the_dense_matrix(operator, fill, damping) -> None:
    M, V = operator.dense(), fill(*operator.shape)
    damped = M + damping * torch.eye(len(M)).double()
    torch.testing.assert_close(operator.matvec(V), (M @ V.reshape(-1)).reshape(V.shape))
    torch.testing.assert_close(operator.trace(), M.trace())
    x = operator.solve(V, damping=damping).reshape(-1)
    backward_error = (damped @ x - V.reshape(-1)).norm() / (
        (M.norm() + damping) * x.norm() + torch.finfo(torch.float64).tiny
    )
    assert float(backward_error) < 1e-14
    w = torch.linalg.eigvalsh(M).clamp(min=0)
    if damping > 1e-6:  # below, the dense spectrum itself is rounding
        expected = torch.log(w + damping).sum()
        torch.testing.assert_close(operator.logdet(damping=damping), expected)


@given(operators(), st.sampled_from([0.5, 3.0]))
def test_scaled(operator, factor) -> None:
    got = operator.scaled(factor)
    assert type(got) is type(operator)
    torch.testing.assert_close(got.dense(), factor * operator.dense())


def test_vec_stacks_rows() -> None:
    """B acts on outputs and A on inputs; in the other order this square case would still run."""
    B, A = torch.diag(torch.tensor([1.0, 2.0])), torch.diag(torch.tensor([3.0, 5.0]))
    expected = torch.diag(torch.tensor([3.0, 5.0, 6.0, 10.0]))
    assert torch.equal(ek.Kronecker(B, A).dense(), expected)
    Lambda = torch.tensor([[3.0, 5.0], [6.0, 10.0]])
    eye = torch.eye(2)
    assert torch.equal(ek.EigenKronecker(eye, eye, Lambda).dense(), expected)


def test_thin_solve_is_exact_at_tiny_damping() -> None:
    """One projection instead of two leaves a backward error of about 1e-6 here."""
    generator = torch.Generator().manual_seed(0)
    Q_B = torch.linalg.qr(torch.randn(40, 5, generator=generator).double())[0]
    Q_A = torch.linalg.qr(torch.randn(60, 7, generator=generator).double())[0]
    E = ek.EigenKronecker(Q_B, Q_A, torch.rand(5, 7, generator=generator).double())
    # Almost in the span: what is left of V after projecting once is mostly rounding.
    V = Q_B @ torch.randn(5, 7, generator=generator).double() @ Q_A.T
    x = E.solve(V, damping=1e-12)
    error = (E.matvec(x) + 1e-12 * x - V).norm() / (E.eigenvalues.max() * x.norm())
    assert float(error) < 1e-15


def test_eigh_survives_what_float32_divide_and_conquer_does_not() -> None:
    """A Gram matrix of one repetitive row on which LAPACK's ssyevd gives up."""
    generator = torch.Generator().manual_seed(709)
    torch.randint(20, 260, (1,), generator=generator)
    torch.randint(1, 8, (1,), generator=generator)
    rows = torch.randn(1, 251, generator=generator).relu()
    rows[:, -1] = 1
    rows[:, :91] = rows[:, :1]
    matrix = rows.T @ rows
    w, Q = eigh(matrix)
    assert w.dtype == Q.dtype == torch.float32
    torch.testing.assert_close(Q @ torch.diag(w) @ Q.T, matrix, atol=1e-3, rtol=0)


def raises(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    raise torch.linalg.LinAlgError("failed to converge")


def keeps_silent(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([1.0, torch.nan]), torch.eye(2)


@pytest.mark.parametrize("fails", [raises, keeps_silent])
def test_eigh_asks_float64_where_float32_fails(fails, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine's LAPACK makes of the matrix above."""
    lapack = torch.linalg.eigh

    def fails_in_float32(matrix: torch.Tensor):
        return fails(matrix) if matrix.dtype == torch.float32 else lapack(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", fails_in_float32)
    w, Q = eigh(torch.diag(torch.tensor([2.0, 1.0])))
    assert w.tolist() == [1.0, 2.0]
    assert w.dtype == Q.dtype == torch.float32
