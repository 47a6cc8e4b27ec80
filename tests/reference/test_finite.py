"""What counts as finite: every number by itself, however large the sum of all."""

import pytest
import torch

from ekfac_ref.question.finite import all_finite


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_numbers_are_finite_where_their_sum_is_not(dtype: torch.dtype) -> None:
    largest = torch.full((2, 3), torch.finfo(dtype).max, dtype=dtype)

    assert all_finite(largest)
    assert all_finite(torch.zeros(0, dtype=dtype))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_shows(bad: float) -> None:
    x = torch.ones(5)
    x[3] = bad

    assert not all_finite(x)
    x[1] = -bad
    assert not all_finite(x)
