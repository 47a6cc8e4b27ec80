"""Patches read by strided views are what the convolution itself returns at the identity weight."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.model.weights.linear_form import Call, at_identity_weight, layer_inputs

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
# Kernels, strides, dilations and paddings of three axes, each another on every axis.
KERNELS = ((1, 1, 1), (3, 2, 1), (2, 3, 2))
STRIDES = (1, (2,), (2, 1, 3))
DILATIONS = (1, (1, 2, 1))
PADDINGS = (0, "valid", 2, (1,), (0, 2, 1))


def call(axes: int, groups: int, kernel: tuple[int, ...], **how: Any) -> Call:
    torch.manual_seed(0)
    weight = torch.randn(4, 4 // groups, *kernel[:axes]).double()
    how = {name: x[:axes] if isinstance(x, tuple) else x for name, x in how.items()}
    x = torch.randn(2, 4, *(7, 6, 5)[:axes]).double()
    arguments = {"input": x, "weight": weight, "bias": None, "groups": groups, **how}
    return Call(CONVOLUTIONS[axes], arguments)


def same(one: Call) -> bool:
    groups = one.arguments["groups"]
    read, defined = layer_inputs(one, groups), at_identity_weight(one, groups)
    assert read.count_nonzero() > 0
    return torch.equal(read, defined)


@pytest.mark.parametrize("axes", CONVOLUTIONS)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_every_geometry(axes: int, groups: int) -> None:
    for kernel, stride, dilation, padding in product(KERNELS, STRIDES, DILATIONS, PADDINGS):
        how = {"stride": stride, "dilation": dilation, "padding": padding}
        assert same(call(axes, groups, kernel, **how)), (kernel, how)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("axes", CONVOLUTIONS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_same_with_odd_and_even_kernels(axes: int, kernel: tuple[int, ...]) -> None:
    assert same(call(axes, 2, kernel, stride=1, dilation=(1, 2, 3), padding="same"))


@pytest.mark.parametrize("change", [lambda x: x[0], lambda x: x.mT, lambda x: x[:, :, ::2]])
def test_whatever_the_input_is_laid_out_as(change: Any) -> None:
    """Without a sample axis, transposed, with gaps."""
    one = call(2, 2, (3, 2), stride=(2, 1), padding=1)
    x: Tensor = change(one.arguments["input"])
    assert same(Call(one.op, {**one.arguments, "input": x}))


def test_what_is_not_given_is_the_default() -> None:
    one = call(2, 1, (3, 2))
    assert same(Call(one.op, {**one.arguments, "groups": 1}))
