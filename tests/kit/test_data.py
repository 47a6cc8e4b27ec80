"""Families of data have the corner that they are there for."""

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.problems import data


@pytest.fixture
def x() -> Tensor:
    """Four samples, two positions, four features."""
    return torch.randn(4, 2, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", dict.fromkeys((*data.OF_ANY_SIZE, *data.TAME, *data.OF_ROWS)))
def test_shape_and_dtype_are_kept(family: data.Data, x: Tensor) -> None:
    for like in (x, x.double(), x[:1], x[:, 0]):
        changed = family(like)
        assert (changed.shape, changed.dtype) == (like.shape, like.dtype)


def test_one_hot_rows_have_equal_eigenvalues(x: Tensor) -> None:
    rows = data.one_hot(x).flatten(0, 1)
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(4) / 4)


def test_duplicated_samples_are_all_one_but_the_last(x: Tensor) -> None:
    assert [len(torch.unique(data.duplicated(x[:n]), dim=0)) for n in (1, 2, 4)] == [1, 2, 2]
    assert torch.equal(data.duplicated(x)[-1], x[-1])


def test_badly_scaled_features_are_sixteen_thousand_apart(x: Tensor) -> None:
    factor = (data.badly_scaled(x) / x)[0, 0]
    torch.testing.assert_close(factor, torch.tensor([2.0**-7, 2.0**-2, 2.0**2, 2.0**7]))


def test_uncentred_data_has_a_mean_beyond_its_spread(x: Tensor) -> None:
    far = data.uncentred(x)
    assert bool((far.mean((0, 1)) > far.std((0, 1))).all())


def test_constant_data_is_one_row(x: Tensor) -> None:
    assert len(torch.unique(data.constant(x).flatten(0, 1), dim=0)) == 1


def test_whitened_rows_have_equal_eigenvalues_in_no_special_basis(x: Tensor) -> None:
    rows = data.whitened(x).flatten(0, 1)
    with_ones = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    torch.testing.assert_close(with_ones.T @ with_ones / len(rows), torch.eye(5))
    assert float(rows.abs().max()) < 0.99 * len(rows) ** 0.5
    few = data.whitened(x[:1, :2]).flatten(0, 1)
    torch.testing.assert_close(few @ few.T / 2, torch.eye(2))


@pytest.mark.parametrize("family", [data.whitened, lambda x: data.orthogonal(x.T)])
def test_rounding_decides_nothing_where_rows_depend_on_one_another(family: data.Data) -> None:
    """Of the third feature nothing is left but rounding: a QR decomposition makes a basis of it."""
    half = torch.tensor([[0.1, 0.2], [0.7, 0.4], [0.3, 0.3], [0.2, 0.9], [0.5, 0.8]]).double()
    x = torch.cat([half, half.sum(1, keepdim=True)], 1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        rounded = x * (1 + 2**-52 * torch.randint(-1, 2, x.shape, generator=generator).double())
        torch.testing.assert_close(family(rounded), family(x))


def test_orthogonal_rows_have_distinct_norms(x: Tensor) -> None:
    rows = data.orthogonal(x).flatten(0, 1)
    expected = torch.diag(torch.tensor([1.0, 4, 9, 16, 0, 0, 0, 0]))
    torch.testing.assert_close(rows @ rows.T, expected)


@torch.no_grad()
def test_logits_of_a_saturated_head_are_32_times_as_large(x: Tensor) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    before = model(x)
    data.saturate(model)
    torch.testing.assert_close(model(x), 32 * before)


def test_with_every_input_paired_with_every_label_kfac_is_exact_in_the_head(x: Tensor) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    of_input, of_label = data.every_with_every(model, 6)
    inputs, targets = x[:2, 0][of_input], torch.randn(3, 2)[of_label]
    assert len(set(zip(of_input.tolist(), of_label.tolist(), strict=True))) == 6
    problem = ek.Problem(model, [(inputs, targets)], ek.Gaussian(), fisher=ek.Empirical())
    F, K = ek.exact_fisher(problem), ek.kfac(problem)
    torch.testing.assert_close(K["2"].dense(), F["2"].dense())
    assert not F["0"].dense().any()


def test_zero_data_is_zero(x: Tensor) -> None:
    assert not data.zero(x).any()


def test_a_dead_feature_is_zero_and_the_others_are_not(x: Tensor) -> None:
    alive = data.dead(x).flatten(0, 1).any(0)
    assert alive.tolist() == [False, True, True, True]
