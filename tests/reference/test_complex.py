"""Networks with complex Parameters: left out or frozen, they are nothing to the real layers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.model.copies.dtypes import inputs_in, model_in

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)).double()
Y = torch.randn(5, 2, generator=torch.Generator().manual_seed(2)).double()
DATA = [(X[:3], Y[:3]), (X[3:], Y[3:])]
BOTH = ("first", "last")


class Spectral(nn.Module):
    """A Fourier layer as neural operators have it, its complex Parameter before all others."""

    def __init__(self) -> None:
        super().__init__()
        self.waves = nn.Parameter(torch.randn(4, dtype=torch.complex128))
        self.first, self.last = nn.Linear(6, 6).double(), nn.Linear(6, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(torch.tanh(h + torch.fft.irfft(torch.fft.rfft(h) * self.waves, n=6)))


class ComplexLinear(nn.Module):
    """A Linear of complex numbers between two of real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6).double(), nn.Linear(6, 2).double()
        self.waves = nn.Linear(6, 6, dtype=torch.complex128)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(self.waves(torch.complex(h, torch.tanh(h))).abs())


def traces(model: nn.Module) -> dict[str, float]:
    """Of the empirical Fisher's blocks, by a loop and plain autograd."""
    found = dict.fromkeys(BOTH, 0.0)
    for x, y in zip(X, Y, strict=True):
        loss = (model(x[None]) - y).square().sum() / 2
        for name in BOTH:
            own = [*model.get_submodule(name).parameters()]
            found[name] += sum(
                float(g.square().sum()) for g in torch.autograd.grad(loss, own, retain_graph=True)
            )
    return {name: total / len(X) for name, total in found.items()}


@pytest.mark.parametrize("entry", [ek.exact_fisher, ek.kfac, ek.ekfac])
@pytest.mark.parametrize("kind", [Spectral, ComplexLinear])
def test_real_layers_beside_them(kind: type[nn.Module], entry: Callable[[ek.Problem], Any]) -> None:
    model, chosen = kind(), {"fisher": ek.Empirical(), "layers": BOTH}
    blocks = entry(ek.Problem(model, DATA, ek.Gaussian(), **chosen))
    if entry is not ek.kfac:
        expected = traces(model)
        assert {name: float(E.trace()) for name, E in blocks.items()} == pytest.approx(expected)
    for name, p in model.named_parameters():
        p.requires_grad_("waves" not in name)
    of_frozen = entry(ek.Problem(model, DATA, ek.Gaussian(), fisher=ek.Empirical()))
    for name, E in blocks.items():
        torch.testing.assert_close(of_frozen[name].dense(), E.dense())


@pytest.mark.parametrize("entry", [ek.exact_fisher, ek.kfac])
@pytest.mark.parametrize("kind", [Spectral, ComplexLinear])
def test_left_in_they_are_refused_by_name(
    kind: type[nn.Module], entry: Callable[[ek.Problem], Any]
) -> None:
    with pytest.raises(ek.ProblemError, match=r"parameter 'waves.*layers=\('first', 'last'\)"):
        entry(ek.Problem(kind(), DATA, ek.Gaussian()))


def test_in_another_dtype_they_keep_their_imaginary_parts() -> None:
    model = Spectral()
    before = model.waves.detach().clone()
    assert model_in(model, torch.float32).waves.dtype == torch.complex64
    assert model.first.weight.dtype == torch.float32
    torch.testing.assert_close(
        model_in(model, torch.float64).waves.detach(), before, atol=1e-6, rtol=0
    )
    z, n = inputs_in((before, torch.arange(3)), torch.float32)
    assert (z.dtype, n.dtype) == (torch.complex64, torch.int64)
    torch.testing.assert_close(z.imag.double(), before.imag, atol=1e-6, rtol=0)


@pytest.mark.parametrize("entry", [ek.exact_fisher, ek.kfac])
def test_data_of_eight_bits_or_complex(entry: Callable[[ek.Problem], Any]) -> None:
    class Reads(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.real if x.is_complex() else x.double())

    model = Reads(6, 2).double()
    z, whole = torch.complex(X, -X), X.to(torch.float8_e4m3fn)
    for x, same in ((z, X), (z.conj(), X), (whole, whole.double())):
        found = entry(ek.Problem(model, [(x, Y)], ek.Gaussian()))[""]
        expected = entry(ek.Problem(model, [(same, Y)], ek.Gaussian()))[""]
        torch.testing.assert_close(found.dense(), expected.dense())
    with pytest.raises(ek.ProblemError, match="inputs: NaN or infinity"):
        entry(ek.Problem(model, [(torch.complex(X, X / 0), Y)], ek.Gaussian()))


def test_a_frozen_parameter_may_have_any_dtype() -> None:
    model = nn.Sequential(nn.Linear(6, 2).double())
    for dtype in (torch.float8_e4m3fn, torch.uint16):
        model.register_parameter("table", nn.Parameter(torch.ones(2).to(dtype), False))
        ek.kfac(ek.Problem(model, DATA, ek.Gaussian()))
