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
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float8_e5m2])
def test_one_number_that_is_not_finite_shows(dtype: torch.dtype, bad: float) -> None:
    x = torch.ones(5)
    x[3] = bad
    assert not all_finite(x.to(dtype))
    x[1] = -bad
    assert not all_finite(x.to(dtype))


def test_what_has_no_infinity_is_finite() -> None:
    bytes_ = torch.full((4,), 0x7F, dtype=torch.uint8)
    assert all_finite(bytes_)
    assert all_finite(bytes_.bool())
    if four_bits := getattr(torch, "float4_e2m1fn_x2", None):  # newer than the oldest torch
        assert all_finite(bytes_.view(four_bits))
