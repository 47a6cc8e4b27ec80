"""Weights that a forward multiplies by a number, against the same with its inputs multiplied."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.model.recording.recorder import Recorder
from tests.reference.test_bare_contractions import by_autocast
from tests.reference.test_bare_weights import Bare, Forward, regression

FORMS: dict[str, tuple[str, Forward, Forward]] = {
    "x @ (c W)": ("W", lambda m, h: h @ (m.W * 0.3), lambda m, h: (0.3 * h) @ m.W),
    "a bias is not scaled": (
        "Vb",
        lambda m, h: F.linear(h, 2 * m.V, m.b),
        lambda m, h: F.linear(2 * h, m.V, m.b),
    ),
    "W / c, by its transpose": (
        "Vb",
        lambda m, h: h @ (m.V / 3).T + m.b,
        lambda m, h: (h / 3) @ m.V.T + m.b,
    ),
    "-W, from the left": ("V", lambda m, h: (-m.V @ h.mT).mT, lambda m, h: (m.V @ -h.mT).mT),
    "a list": (
        "W",
        lambda m, h: torch.einsum("nti,io->nto", [h, m.W.mul(2.0)]),
        lambda m, h: torch.einsum("nti,io->nto", 2 * h, m.W),
    ),
    "experts": (
        "Ec",
        lambda m, h: sum(h**e @ (m.E * 0.5)[e] + m.c[e] for e in range(3)),
        lambda m, h: sum((0.5 * h**e) @ m.E[e] + m.c[e] for e in range(3)),
    ),
    "a kernel": (
        "H",
        lambda m, h: F.conv1d(h[..., :2].mT, torch.div(m.H, 2), padding=1).mT,
        lambda m, h: F.conv1d(h[..., :2].mT / 2, m.H, padding=1).mT,
    ),
    "two numbers": (
        "W",
        lambda m, h: h @ (m.W * 2) + (h**2) @ (m.W * 3),
        lambda m, h: (2 * h) @ m.W + (3 * h**2) @ m.W,
    ),
    "twice": (
        "Vb",
        lambda m, h: F.linear(h, -m.V / 3, m.b) + torch.inner(h, m.V * 2 * 0.5),
        lambda m, h: F.linear(-h / 3, m.V, m.b) + torch.inner(h, m.V),
    ),
    "beside what is held constant": (
        "W",
        lambda m, h: h @ constant(m.W) + h @ m.W + h @ (m.W * 3).detach(),
        lambda m, h: 5 * h @ m.W.detach() + h @ m.W,
    ),
    "numpy's": (
        "W",
        lambda m, h: h @ (m.W / np.sqrt(3.0)),
        lambda m, h: (h / 3**0.5) @ m.W,
    ),
    "beside itself": (
        "W",
        lambda m, h: h @ (m.W * 2) + (h**2) @ m.W,
        lambda m, h: (2 * h) @ m.W + (h**2) @ m.W,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_number_is_one_of_the_inputs(form: str) -> None:
    own, how, inputs_scaled = FORMS[form]
    question = regression(own, how)
    alike = Bare(own, inputs_scaled).double()
    alike.load_state_dict(question.model.state_dict())
    plain = replace(question, model=alike)
    torch.testing.assert_close(
        alike(question.batches[0][0]), question.model(question.batches[0][0])
    )
    for ask in (ek.kfac, ek.ekfac, ek.exact_fisher):
        found, expected = ask(question), ask(plain)
        assert [*found] == [*expected]
        for name, one in found.items():
            torch.testing.assert_close(one.dense(), expected[name].dense(), rtol=1e-10, atol=1e-10)


class Equalized(nn.Linear):
    """As StyleGAN's."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.5, self.bias)


def test_a_module_may_scale_its_own_weight() -> None:
    model = nn.Sequential(Equalized(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    found = ek.ekfac(ek.Problem(model, [(x, y)], ek.Gaussian()))
    plain = nn.Sequential(nn.Linear(3, 4), *model[1:]).double()
    plain[0].load_state_dict(model[0].state_dict())
    expected = ek.ekfac(ek.Problem(plain, [(x / 2, y)], ek.Gaussian()))
    for name, one in found.items():
        torch.testing.assert_close(one.dense(), expected[name].dense(), rtol=1e-10, atol=1e-10)


NONE: dict[str, tuple[str, Forward]] = {
    "a number over it": ("W", lambda m, h: h @ (2 / m.W)),
    "a number that is a tensor": ("W", lambda m, h: h @ (m.W * torch.tensor(2.0).double())),
    "a row for each": ("W", lambda m, h: h @ (m.W * torch.tensor([1.0, 2]).double())),
    "rounded": ("W", lambda m, h: h @ torch.div(m.W, 0.1, rounding_mode="floor")),
    "and written into": ("W", lambda m, h: h @ (m.W * 2).add_(1)),
    "and a part written into": ("W", lambda m, h: h @ written(m.W * 2)),
    "and summed": ("W", lambda m, h: h @ (m.W * 2) + (m.W * 3).sum()),
    "and a function of it": ("W", lambda m, h: h @ (m.W * 2).tanh()),
    "twice, and written into": ("W", lambda m, h: h @ (m.W * 2 * 3).add_(1)),
    "a view of it": ("W", lambda m, h: h @ (m.W.T * 2).T),
    "times a Parameter": ("WV", lambda m, h: h @ ((m.W * 2) @ m.V)),
    "looked up": ("W", lambda m, h: (m.W * 2)[torch.tensor([0, 1, 1])]),
    "an input": ("Ws", lambda m, h: F.linear(m.W * 2, m.s)),
    "of a number": ("W", lambda m, h: (m.W * 2) * m.W[0, 0]),
    "a view of it, beside it": ("W", lambda m, h: h @ (m.W.T * 2).T + h @ m.W),
    "times a Parameter as it is": ("sW", lambda m, h: F.linear(m.s, m.W * 2)),
    "and added to in one op": (
        "W",
        lambda m, h: torch.stack([torch.addmm(torch.ones(2).double(), one, m.W * 2) for one in h]),
    ),
    "from both sides": ("S", lambda m, h: h @ (m.S * 2) + h @ m.S.T),
}


def constant(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x * 2


def written(x: Tensor) -> Tensor:
    x[0].mul_(2)
    return x


@pytest.mark.parametrize("form", NONE)
def test_what_is_more_than_a_number_times_a_weight_is_no_layer(form: str) -> None:
    own, how = NONE[form]

    def forward(m: Bare, h: Tensor) -> Tensor:
        y = how(m, h).sin()
        return y.mean((-2, -1), keepdim=True) + h @ m.H.flatten(1)

    question = regression(f"{own}H", forward)
    with pytest.raises(ek.ProblemError, match=r"supported layer covers it.*\('first', 'H'\)"):
        ek.kfac(question)
    name = own[0]
    assert ek.exact_fisher(question)[name].shape == (1, getattr(question.model, name).numel())


def test_a_bias_that_is_scaled_is_none() -> None:
    forms: list[tuple[str, Forward]] = [
        ("Wb", lambda m, h: h @ m.W + m.b * 2),
        ("Wy", lambda m, h: h @ m.W + m.y / 2),
    ]
    for own, how in forms:
        with pytest.raises(ek.ProblemError, match=rf"'{own[1]}' .*supported.*\('first', 'W'\)"):
            ek.kfac(regression(own, how))


def test_views_of_it_are_those_of_the_weight_wherever_that_is() -> None:
    """In a part of other memory, or by columns; of one number for all columns there are none."""
    question = regression("V", lambda m, h: (h @ (m.V / 3).T).sum(1))
    model, layers = question.model, ek.layers_of(question)
    x, V = question.batches[0][0], model.V.data
    for data in (V, torch.cat([V[:1], V])[1:], V.T.clone().T):
        model.V.data = data
        expected = model(x)
        with Recorder(layers) as recorder:
            torch.testing.assert_close(model(x), expected)
        assert recorder.used == {"first", "V"}
    model.V.data = V[:, :1].expand(-1, 4)
    with pytest.raises(ek.ProblemError, match=r"is used outside.*Tensor.div"), Recorder(layers):
        model(x)


class Looking(nn.Embedding):
    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight * 0.5)


def test_a_table_that_is_scaled_is_told_as_that() -> None:
    ids, y = torch.tensor([[0, 1], [2, 2]]), torch.zeros(2, 2, 3).double()
    question = ek.Problem(nn.Sequential(Looking(4, 3)).double(), [(ids, y)], ek.Gaussian())
    with pytest.raises(ek.ProblemError, match=r"used after it was multiplied by a number"):
        ek.kfac(question)


class BiasScaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 0.5, self.bias * 2)


def test_a_module_may_not_scale_its_bias() -> None:
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    question = ek.Problem(BiasScaled(3, 2).double(), [(x, y)], ek.Gaussian())
    with pytest.raises(ek.ProblemError, match=r"its weight or bias is used outside.*Tensor.mul"):
        ek.kfac(question)


def test_autocast_rounds_it_in_its_own_place() -> None:
    question = by_autocast("V", lambda m, h: F.linear(h, m.V * 0.3))
    with pytest.raises(ek.ProblemError, match=r"'V' .*no supported layer.*\('first',\)"):
        ek.layers_of(question)
