"""Parameters that a forward multiplies with by itself, against the same network of modules."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek

SHAPES = {"W": (4, 2), "V": (2, 4), "b": (2,), "E": (3, 4, 2), "D": (3, 2, 4), "c": (3, 2)}
Forward = Callable[["Bare", Tensor], Tensor]  # of [N, 5, 4], whatever first made of the data


class Bare(nn.Module):
    """A layer, and Parameters of which ``how`` makes the outputs."""

    W: Tensor
    V: Tensor
    b: Tensor
    E: Tensor
    D: Tensor
    c: Tensor

    def __init__(self, own: str, how: Forward) -> None:
        super().__init__()
        self.first, self.how = nn.Linear(3, 4), how
        for name in own:
            setattr(self, name, nn.Parameter(torch.randn(SHAPES[name])))

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self, self.first(x).tanh())


class OfModules(nn.Module):
    """The same function: one Linear on all positions, or one on each third of six."""

    def __init__(self, bare: Bare) -> None:
        super().__init__()
        self.first = bare.first
        own = dict(bare.named_parameters())
        matrices = [own[name] for name in "WVED" if name in own]
        several = matrices[0] if matrices[0].dim() == 3 else matrices[0][None]
        if "W" in own or "E" in own:
            several = several.mT
        self.last = nn.ModuleList(nn.Linear(4, 2, bias="b" in own or "c" in own) for _ in several)
        biases = own.get("c", own["b"][None] if "b" in own else None)
        with torch.no_grad():
            for e, linear in enumerate(self.last):
                linear.weight.copy_(several[e])
                if biases is not None:
                    linear.bias.copy_(biases[e])

    def forward(self, x: Tensor) -> Tensor:
        parts = self.first(x).tanh().chunk(len(self.last), 1)
        return torch.cat([f(part) for f, part in zip(self.last, parts, strict=True)], 1)


def thirds(f: Callable[[int, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda h: torch.cat([f(e, part) for e, part in enumerate(h.chunk(3, 1))], 1)


def by_bmm(weight: Tensor, h: Tensor) -> Tensor:
    """[3, 2 N, 4] times [3, 4, 2], as experts of equal capacity are."""
    by_expert = h.unflatten(1, (3, 2)).transpose(0, 1).flatten(1, 2)
    return torch.bmm(by_expert, weight).unflatten(1, (-1, 2)).transpose(0, 1).flatten(1, 2)


FORWARDS: dict[str, tuple[str, Forward]] = {
    "x @ W": ("W", lambda m, h: h @ m.W),
    "x @ W + b": ("Wb", lambda m, h: h @ m.W + m.b),
    "b + matmul": ("Wb", lambda m, h: m.b + torch.matmul(h, m.W)),
    "in place": ("Wb", lambda m, h: (h @ m.W).add_(m.b)),
    "mm": ("W", lambda m, h: torch.stack([one.mm(m.W) for one in h])),
    "linear": ("Vb", lambda m, h: F.linear(h, m.V, m.b)),
    "linear of a transpose": ("Wb", lambda m, h: F.linear(h, m.W.t(), m.b)),
    "x @ V.T + b": ("Vb", lambda m, h: h @ m.V.T + m.b),
    "V x": ("V", lambda m, h: torch.stack([(m.V @ one.mT).mT for one in h])),
    "addmm": ("Wb", lambda m, h: torch.addmm(m.b, h.flatten(0, 1), m.W).unflatten(0, (-1, 6))),
    "addmm of a transpose": (
        "Vb",
        lambda m, h: torch.addmm(m.b, h.flatten(0, 1), m.V.T).unflatten(0, (-1, 6)),
    ),
    "einsum": ("W", lambda m, h: torch.einsum("nti,io->not", h, m.W).mT),
    "einsum, weight first": ("V", lambda m, h: torch.einsum("oi, ...i -> ...o", m.V, h)),
    "experts": ("E", lambda m, h: thirds(lambda e, x: x @ m.E[e])(h)),
    "experts with biases": ("Dc", lambda m, h: thirds(lambda e, x: F.linear(x, m.D[e], m.c[e]))(h)),
    "experts by tensors, and a sum": (
        "Ec",
        lambda m, h: thirds(lambda e, x: x @ m.E[torch.tensor(e)] + m.c[e])(h),
    ),
    "experts unbound": (
        "Dc",
        lambda m, h: thirds(lambda e, x: x @ m.D.unbind()[e].mT + m.c[e])(h),
    ),
    "bmm": ("E", lambda m, h: by_bmm(m.E, h)),
    "bmm of a transpose": ("D", lambda m, h: by_bmm(m.D.transpose(1, 2), h)),
}


def problem(model: nn.Module, fisher: ek.Empirical | ek.Exact) -> ek.Problem:
    x, y = torch.randn(5, 6, 3).double(), torch.randn(5, 6, 2).double()
    return ek.Problem(model, [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian(), fisher)


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("fisher", [ek.Empirical(), ek.Exact()], ids=["empirical", "exact"])
@pytest.mark.parametrize("form", FORWARDS)
def test_it_is_the_layer_of_a_module(form: str, fisher: ek.Empirical | ek.Exact) -> None:
    model = Bare(*FORWARDS[form]).double()
    bare, modules = problem(model, fisher), problem(OfModules(model).double(), fisher)
    modules.batches[:] = bare.batches
    for ask in (ek.kfac, ek.ekfac, ek.exact_fisher):
        found, expected = ask(bare), ask(modules)
        assert len(found) == len(expected)
        for one, other in zip(found.values(), expected.values(), strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one.dense(), other.dense(), rtol=1e-10, atol=1e-10)
