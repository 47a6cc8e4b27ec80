"""A new basis does not corrupt the eigenvalues gathered so far."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ekfac_ref as ek
from ekfac_ref.optim import EKFACPreconditioner
from ekfac_ref.optim.basis import re_expressed
from tests.support.optim_cases import close
from tests.support.strategies import orthogonal_matrix

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def two_bases(draw: st.DrawFn) -> tuple[ek.EigenKronecker, torch.Tensor, torch.Tensor]:
    d_out, d_in = draw(SIZES)
    Q = [draw(orthogonal_matrix(d)).double() for d in (d_out, d_in, d_out, d_in)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    Lambda = torch.rand(d_out, d_in, generator=generator, dtype=torch.float64)
    zeros = torch.rand(d_out, d_in, generator=generator) < 0.3
    return ek.EigenKronecker(Q[0], Q[1], Lambda.masked_fill(zeros, 0)), Q[2], Q[3]


@given(two_bases())
def test_it_is_the_diagonal_of_the_old_matrix(bases) -> None:
    """Hence the best approximation to it in the new basis; the trace stays, and the sign."""
    old, Q_B, Q_A = bases
    new = re_expressed(old, Q_B, Q_A)
    Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
    assert close(new.eigenvalues, (Q.T @ old.dense() @ Q).diagonal().reshape(old.shape))
    assert close(new.trace(), old.trace())
    assert (new.eigenvalues >= 0).all()
    assert new.Q_B is Q_B
    assert new.Q_A is Q_A


@given(two_bases(), st.randoms(use_true_random=False))
def test_order_and_sign_change_nothing(bases, random) -> None:
    old = bases[0]
    orders = [random.sample(range(d), d) for d in old.shape]
    signs = [torch.tensor([random.choice((-1.0, 1.0)) for _ in order]) for order in orders]
    Q_B, Q_A = (
        Q[:, order] * sign for Q, order, sign in zip((old.Q_B, old.Q_A), orders, signs, strict=True)
    )
    new = re_expressed(old, Q_B.double(), Q_A.double())
    assert close(new.dense(), old.dense())
    assert close(new.eigenvalues, old.eigenvalues[orders[0]][:, orders[1]])


@settings(max_examples=8)
@given(st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
def test_identical_batches_keep_the_matrix(seed: int, beta: float) -> None:
    """With a new basis each time; on data whose factors have no repeated eigenvalue."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    y = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    preconditioner = EKFACPreconditioner(
        model.double(), ek.Gaussian(), fisher=ek.Empirical(), decay=beta, recompute_every=1
    )
    preconditioner.update(x, y)
    first = {name: E.dense() for name, E in preconditioner.operators.items()}
    for _ in range(3):
        preconditioner.update(x, y)
    for name, E in preconditioner.operators.items():
        # the basis is as good as its eigengaps, which are not below 1e-5 here
        assert (E.dense() - first[name]).norm() < 1e-8 * first[name].norm()
