"""What an update makes of the running factors and eigenvalues, against weighted sums of a loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ekfac_ref as ek
from ekfac_ref.optim import EKFACPreconditioner, KFACPreconditioner
from tests.support.optim_cases import (
    ONE_OF_EACH,
    batch,
    by_block,
    close,
    kind,
    likelihood,
    squares,
    sums,
    weighted,
    weights,
)

BATCHES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=4)
DECAYS = st.sampled_from([0.0, 0.3, 0.95, 1.0])
FISHERS = st.sampled_from([ek.Exact(), ek.Empirical()])
SHARINGS = st.sampled_from([ek.Expand(), ek.Reduce()])
kinds = pytest.mark.parametrize("name", ONE_OF_EACH)


def check_factors(found, block, by) -> None:
    """A pooled by rows and B by samples."""
    assert close(found.A, weighted(block.A, by) / weighted(block.rows, by))
    assert close(found.B, weighted(block.B, by) / sum(by))


def check_basis(E: ek.EigenKronecker, K: ek.Kronecker) -> None:
    """Square, orthonormal, and it diagonalizes the factors."""
    for Q, factor in ((E.Q_B, K.B), (E.Q_A, K.A)):
        assert Q.shape == factor.shape
        assert close(Q.T @ Q, torch.eye(len(Q)).double())
        rotated = Q.T @ factor @ Q
        assert close(rotated, torch.diag(rotated.diagonal()))


@kinds
@settings(max_examples=6)
@given(batches=BATCHES, beta=DECAYS, every=st.integers(1, 3), fisher=FISHERS, sharing=SHARINGS)
def test_ekfac_is_the_weighted_mean(name, batches, beta, every, fisher, sharing) -> None:
    """After every update: factors by their closed form; a basis of them when it is due, else the
    one before; and the eigenvalues: those before, re-expressed as the diagonal of dense E in the
    new basis and weighted by the samples behind them, and the batch's own squares.
    """
    preconditioner = EKFACPreconditioner(
        kind(name).model,
        likelihood(name),
        fisher=fisher,
        sharing=sharing,
        decay=beta,
        recompute_every=every,
    )
    blocks, before = sums(name, fisher, sharing), {}
    for t in range(len(batches)):
        preconditioner.update(*batch(name, batches[t]))
        factors = by_block(preconditioner.factors)
        operators = by_block(preconditioner.operators)
        assert list(factors) == list(operators) == list(blocks)
        by, old = weights(batches[: t + 1], beta), weights(batches[:t], beta)
        for key, block in blocks.items():
            E = operators[key]
            check_factors(factors[key], block, by)
            if t % every == 0:
                check_basis(E, factors[key])
            else:
                assert torch.equal(E.Q_B, before[key].Q_B)
                assert torch.equal(E.Q_A, before[key].Q_A)
            expected = sum(squares(block.G[n], E.Q_B, E.Q_A) for n in batches[t])
            if t:
                Q = torch.kron(E.Q_B.contiguous(), E.Q_A.contiguous())
                in_new_basis = (Q.T @ before[key].dense() @ Q).diagonal().reshape(E.shape)
                expected = expected + beta * sum(old) * in_new_basis
            assert close(E.eigenvalues, expected / sum(by))
        before = operators


@kinds
@settings(max_examples=3)
@given(batches=BATCHES, beta=DECAYS, fisher=FISHERS, sharing=SHARINGS)
def test_in_one_basis_the_eigenvalues_are_a_weighted_mean(
    name, batches, beta, fisher, sharing
) -> None:
    """No recursion: Lambda = sum_n w_n squares_n / sum_n w_n in the basis of the first batch."""
    preconditioner = EKFACPreconditioner(
        kind(name).model,
        likelihood(name),
        fisher=fisher,
        sharing=sharing,
        decay=beta,
        recompute_every=100,
    )
    for samples in batches:
        preconditioner.update(*batch(name, samples))
    by = weights(batches, beta)
    for key, E in by_block(preconditioner.operators).items():
        G = sums(name, fisher, sharing)[key].G
        expected = weighted([squares(G_n, E.Q_B, E.Q_A) for G_n in G], by) / sum(by)
        assert close(E.eigenvalues, expected)


@kinds
@settings(max_examples=3)
@given(batches=BATCHES, beta=DECAYS, every=st.integers(1, 3), fisher=FISHERS, sharing=SHARINGS)
def test_kfac_is_the_product_of_the_factors_when_it_was_due(
    name, batches, beta, every, fisher, sharing
) -> None:
    preconditioner = KFACPreconditioner(
        kind(name).model,
        likelihood(name),
        fisher=fisher,
        sharing=sharing,
        decay=beta,
        recompute_every=every,
    )
    for t in range(len(batches)):
        preconditioner.update(*batch(name, batches[t]))
        factors = by_block(preconditioner.factors)
        for key, block in sums(name, fisher, sharing).items():
            check_factors(factors[key], block, weights(batches[: t + 1], beta))
        if t % every == 0:
            expected = {key: K.dense() for key, K in factors.items()}
        for key, K in by_block(preconditioner.operators).items():
            assert close(K.dense(), expected[key])


@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical(), ek.Sampled(2, seed=3)])
@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])
def test_the_first_update_is_the_reference(fisher, sharing) -> None:
    """Reduced to three rows, A has a null space in which rounding chooses EKFAC's basis."""
    name = "conv2d_grouped"
    problem = ek.Problem(
        kind(name).model, [batch(name, [0, 1, 2])], likelihood(name), fisher, sharing
    )
    for make, ask in ((EKFACPreconditioner, ek.ekfac), (KFACPreconditioner, ek.kfac)):
        preconditioner = make(problem.model, problem.likelihood, fisher=fisher, sharing=sharing)
        preconditioner.update(*problem.batches[0])
        unique = make is KFACPreconditioner or isinstance(sharing, ek.Expand)
        for layer, E in ask(problem).items():
            found = preconditioner.operators[layer]
            assert close(found.trace(), E.trace())
            assert not unique or close(found.dense(), E.dense())


def test_a_mask_counts_rows_over_all_batches() -> None:
    """Also where one batch has none; only nothing at all is an error."""
    model = torch.nn.Linear(2, 1, bias=False).double()
    x = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 1.0], [0.0, 0.0]]]).double()

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = model

        def forward(self, x):
            return self.linear(x) * counted(x)[..., None]

    def counted(x):
        return (x != 0).any(-1)

    preconditioner = EKFACPreconditioner(
        Masked(), ek.Gaussian(), mask=counted, decay=0.5, recompute_every=1
    )
    nothing = torch.zeros(1, 2, 2).double(), torch.zeros(1, 2, 1).double()
    with pytest.raises(ek.ProblemError, match="the mask counts none of its positions"):
        preconditioner.update(*nothing)
    assert preconditioner.updates == 0
    preconditioner.update(x, torch.zeros(2, 2, 1).double())
    preconditioner.update(*nothing)
    K = preconditioner.factors["linear"]
    assert close(K.A, (torch.diag(torch.tensor([1.0, 4.0])) + x[1, :1].T @ x[1, :1]) / 3)
    assert close(K.B, torch.tensor([[(0.5 * 3 + 0) / (0.5 * 2 + 1)]]).double())


@pytest.mark.parametrize("make", [EKFACPreconditioner, KFACPreconditioner])
def test_chunks_do_not_show(make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch too large to be kept is gone through again."""
    name, found = "conv2d_grouped", []
    for budget in (2**28, 1):
        monkeypatch.setattr("ekfac_ref.model.tapped.CHUNK_BYTES", budget)
        preconditioner = make(
            kind(name).model, likelihood(name), fisher=ek.Sampled(2, seed=1), recompute_every=2
        )
        for samples in ([0, 1, 2, 2], [2, 1, 0], [1]):
            preconditioner.update(*batch(name, samples))
        found.append(preconditioner.operators)
    for layer in found[0]:
        assert close(found[0][layer].dense(), found[1][layer].dense())


def test_every_update_draws_labels_of_its_own() -> None:
    """The first with the seed as it is; the same run twice is the same."""

    def run(seed: int, updates: int) -> list[torch.Tensor]:
        preconditioner = KFACPreconditioner(
            model, ek.Gaussian(), fisher=ek.Sampled(1, seed), decay=0.0, recompute_every=1
        )
        found = []
        for _ in range(updates):
            preconditioner.update(x, torch.zeros(2, 2).double())
            found.append(preconditioner.factors[""].B)
        return found

    model, x = torch.nn.Linear(3, 2).double(), torch.ones(2, 3).double()
    first, again = run(4, 3), run(4, 3)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    everything = [*first, *run(5, 3), *run(2**128 - 1, 2)]
    assert len({tuple(B.flatten().tolist()) for B in everything}) == len(everything)
