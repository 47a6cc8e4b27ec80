"""Networks with complex Parameters: left out or frozen, they are nothing to the real layers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, adapted
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


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16])
def test_a_frozen_parameter_may_have_any_dtype(dtype: torch.dtype) -> None:
    """And what one computes in is not that of numbers that are only stored."""

    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Parameter(torch.arange(24.0).reshape(4, 6).to(dtype), False)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((x @ self.base.to(x.dtype).T / 9).tanh())

    for real in (torch.float64, torch.float32):
        model = Quantised()
        model.head.to(real)
        problem = ek.Problem(model, [(X.to(real), Y.to(real))], ek.Gaussian())
        assert problem.dtype is real
        assert ct.check_on(ek.ekfac, problem).exit_code == 0


def test_parts_of_an_answer_are_read_in_the_real_dtype() -> None:
    def parts(problem: ek.Problem) -> dict[str, Eigen]:
        return {n: Eigen(E.Q_B, E.Q_A, E.eigenvalues) for n, E in ek.ekfac(problem).items()}

    problem = ek.Problem(Spectral(), DATA, ek.Gaussian(), layers=BOTH)
    for name, E in adapted(parts)(problem).items():
        torch.testing.assert_close(E.dense(), ek.ekfac(problem)[name].dense())


def test_no_advice_names_a_complex_layer() -> None:
    """Where something else is refused, a norm before it."""
    model = ComplexLinear()
    model.first = nn.Sequential(nn.LayerNorm(6).double(), model.first)
    with pytest.raises(ek.ProblemError, match=r"LayerNorm.*layers=\('first.1', 'last'\)"):
        ek.kfac(ek.Problem(model, DATA, ek.Gaussian()))
