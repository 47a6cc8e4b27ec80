"""Families of data have the corner that they are there for."""

import pytest
import torch
from torch import Tensor

from ekfac_ref.conformance import data


@pytest.fixture
def x() -> Tensor:
    """Four samples, two positions, four features."""
    return torch.randn(4, 2, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", dict.fromkeys((*data.FAMILIES, *data.TAME)))
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


def test_badly_scaled_features_are_ten_thousand_apart(x: Tensor) -> None:
    factor = (data.badly_scaled(x) / x)[0, 0]
    torch.testing.assert_close(factor[-1] / factor[0], torch.tensor(1e4))


def test_uncentred_data_has_a_mean_beyond_its_spread(x: Tensor) -> None:
    far = data.uncentred(x)
    assert bool((far.mean((0, 1)) > far.std((0, 1))).all())


def test_a_dead_feature_is_zero_and_the_others_are_not(x: Tensor) -> None:
    alive = data.dead(x).flatten(0, 1).any(0)
    assert alive.tolist() == [False, True, True, True]
