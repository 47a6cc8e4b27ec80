"""Steps do not depend on a rotation of a layer's inputs that its weights undo, and when they do."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC
from tests.support.strategies import orthogonal_matrix

BOTH = pytest.mark.parametrize("make", [EKFAC, KFAC])
SETTINGS: dict[str, Any] = {"lr": 0.3, "damping": 0.05, "momentum": 0.9, "kl_clip": 0.1}


def folded(model: nn.Module, R: Tensor) -> nn.Module:
    """The same function of R x: W R^T, which is [W | b] diag(R, 1)^T."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        if isinstance(twin[0], nn.Conv2d):
            twin[0].weight.copy_(torch.einsum("ochw,dc->odhw", model[0].weight, R))
        else:
            twin[0].weight.copy_(model[0].weight @ R.T)
    return twin


def rotated(x: Tensor, R: Tensor) -> Tensor:
    """R x along the axis of features: the second."""
    return torch.einsum("nc...,dc->nd...", x, R)


def walk(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor) -> None:
    optimizer.update(x, y)
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
    optimizer.step()


def smallest_gap(optimizer: Any) -> float:
    """Between eigenvalues of a factor, relative to the largest, over all layers."""
    spectra = [
        torch.linalg.eigvalsh(factor)
        for K in optimizer.preconditioner.factors.values()
        for factor in (K.A, K.B)
    ]
    return min(float((w.diff() / w[-1]).min()) for w in spectra if len(w) > 1)


def linear(bias: bool) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3, bias=bias), nn.Tanh(), nn.Linear(3, 2))


def convolution(bias: bool) -> nn.Module:
    layers = nn.Conv2d(3, 2, (2, 1), bias=bias), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers)


@BOTH
@pytest.mark.parametrize("build", [linear, convolution])
@settings(max_examples=4)
@given(
    seed=st.integers(0, 99),
    R=orthogonal_matrix(3),
    bias=st.booleans(),
    fisher=st.sampled_from([ek.Empirical(), ek.Exact(), ek.Sampled(2, seed=1)]),
    every=st.integers(1, 3),
    decay=st.sampled_from([0.5, 0.95, 1.0]),
)
def test_five_steps_are_the_same(make, build, seed, R, bias, fisher, every, decay) -> None:
    """Where no factor has a repeated eigenvalue, zero included, when the basis is taken."""
    torch.manual_seed(seed)
    model, R = build(bias).double(), R.double()
    twin = folded(model, R)
    choices = {**SETTINGS, "fisher": fisher, "recompute_every": every, "decay": decay}
    one, other = (make(m, ek.Bernoulli(), **choices) for m in (model, twin))
    shape = (3,) if isinstance(model[0], nn.Linear) else (3, 3, 1)
    for t in range(5):
        x = torch.randn(12 + t, *shape).double()
        y = (torch.rand(12 + t, 2) < 0.5).double()
        before = model(x).detach()
        walk(model, one, x, y)
        walk(twin, other, rotated(x, R), y)
        assume(smallest_gap(one) > 1e-4)
        f, g = model(x).detach(), twin(rotated(x, R)).detach()
        assert (f - before).norm() > 1e-4
        assert (f - g).norm() < 1e-8 * f.norm()


@pytest.mark.parametrize("every", [1, 100])
def test_in_a_basis_older_than_the_data_they_differ(every: int) -> None:
    """Two samples span two of four directions. The eigenvectors in the other two are arbitrary, and
    carry nothing, so the first step is the same. Later data, read in this old basis, put there what
    depends on the choice. In a new basis at every update nothing does: it comes from a factor that
    has seen the data, and the eigenvalues before, re-expressed, are those of a matrix that does not
    depend on the choice.
    """
    torch.manual_seed(0)
    R = torch.linalg.qr(torch.randn(4, 4).double())[0]
    model = nn.Sequential(nn.Linear(4, 2, bias=False)).double()
    twin = folded(model, R)
    choices = {**SETTINGS, "fisher": ek.Empirical(), "kl_clip": None, "recompute_every": every}
    one, other = (EKFAC(m, ek.Bernoulli(), **choices) for m in (model, twin))
    off = []
    for samples in (2, 12):
        x = torch.randn(samples, 4).double()
        y = (torch.rand(samples, 2) < 0.5).double()
        walk(model, one, x, y)
        walk(twin, other, rotated(x, R), y)
        f, g = model(x).detach(), twin(rotated(x, R)).detach()
        off.append(float((f - g).norm() / f.norm()))
    assert off[0] < 1e-12
    assert off[1] < 1e-12 if every == 1 else off[1] > 1e-3
