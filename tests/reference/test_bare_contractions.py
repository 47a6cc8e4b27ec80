"""Products that einsum, tensordot, inner and sums in one op write, against layers of modules."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from tests.reference.test_bare_weights import Bare, Forward, check_of_modules, problem, regression


def at_each(m: Bare, h: Tensor) -> Tensor:
    rows = [torch.addmv(m.b, m.V, x) if t else m.b.addmv(m.V, x) for t, x in enumerate(h[0])]
    return torch.stack([*rows, *(torch.addmv(m.b, m.V, x) for x in h[1:].flatten(0, 1))])


def by_experts(m: Bare, h: Tensor) -> Tensor:
    by_expert = h.unflatten(1, (3, 2)).transpose(0, 1).flatten(1, 2)
    y = torch.baddbmm(m.c[:, None], by_expert, m.E)
    return y.unflatten(1, (-1, 2)).transpose(0, 1).flatten(1, 2)


def by_experts_as_a_method(m: Bare, h: Tensor) -> Tensor:
    by_expert = h.unflatten(1, (3, 2)).transpose(0, 1).flatten(1, 2)
    y = m.c[:, None].baddbmm(by_expert, m.D.mT)
    return y.unflatten(1, (-1, 2)).transpose(0, 1).flatten(1, 2)


FORWARDS: dict[str, tuple[str, Forward]] = {
    "einsum with no arrow": ("W", lambda m, h: torch.einsum("nti,io", h, m.W).mT),
    "capitals come first": ("W", lambda m, h: torch.einsum("ntI, IO", h, m.W).permute(1, 2, 0)),
    "dots come first": ("V", lambda m, h: torch.einsum("Oi,...i", m.V, h)),
    "of a list": ("W", lambda m, h: torch.einsum("nti,io->nto", [h, m.W])),
    "of a tuple, weight first": ("V", lambda m, h: torch.einsum("oi, nti -> nto", (m.V, h))),
    "by numbers": (
        "W",
        lambda m, h: torch.einsum(h, [3, 1, 30], m.W, [30, 2]).permute(2, 0, 1),
    ),
    "by numbers, with outputs": (
        "V",
        lambda m, h: torch.einsum(m.V, [9, 0], h, [..., 0], [..., 9]),
    ),
    "tensordot": ("Wb", lambda m, h: torch.tensordot(h, m.W, dims=1) + m.b),
    "tensordot over pairs": ("V", lambda m, h: torch.tensordot(h, m.V, ([2], [-1]))),
    "tensordot, weight first": (
        "V",
        lambda m, h: torch.tensordot(m.V, h, dims=[[1], [2]]).movedim(0, -1),
    ),
    "inner": ("Vb", lambda m, h: torch.inner(h, m.V) + m.b),
    "inner, weight first": ("V", lambda m, h: m.V.inner(h).movedim(0, -1)),
    "inner of a transpose": ("W", lambda m, h: torch.inner(other=m.W.T, input=h)),
    "linalg.matmul": ("W", lambda m, h: torch.linalg.matmul(h, m.W)),
    "addmv": ("Vb", lambda m, h: at_each(m, h).unflatten(0, (-1, 6))),
    "baddbmm": ("Ec", by_experts),
    "the method baddbmm": ("Dc", by_experts_as_a_method),
}


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("form", FORWARDS)
def test_it_is_the_layer_of_a_module(form: str) -> None:
    own, how = FORWARDS[form]
    model = Bare(own, how).double()
    check_of_modules(model, problem(model, ek.Exact()))


@pytest.mark.parametrize(
    ("own", "how", "matrix"),
    [
        (
            "R",
            lambda m, h: torch.tensordot(h.unflatten(-1, (2, 2)), m.R),
            lambda R: R.flatten(0, 1).T,
        ),
        ("H", lambda m, h: torch.tensordot(h, m.H, 1).flatten(2), lambda H: H.flatten(1).T),
        (
            "Q",
            lambda m, h: torch.einsum(
                "tab,oab", h.flatten(0, 1).unflatten(-1, (2, 2)), m.Q
            ).mT.unflatten(0, (-1, 6)),
            lambda Q: Q.flatten(1),
        ),
    ],
    ids=["inputs in front", "outputs behind", "inputs behind"],
)
def test_two_axes_may_be_one_side(
    own: str, how: Forward, matrix: Callable[[Tensor], Tensor]
) -> None:
    question = regression(own, how)
    weight = matrix(getattr(question.model, own)).detach()
    linear = nn.Linear(*weight.T.shape, bias=False).double()
    linear.weight = nn.Parameter(weight)
    plain = replace(question, model=nn.Sequential(question.model.first, nn.Tanh(), linear))
    for ask in (ek.kfac, ek.ekfac, ek.exact_fisher):
        found, expected = ask(question), ask(plain)
        assert list(found) == ["first", own]
        torch.testing.assert_close(
            found[own].dense(), expected["2"].dense(), rtol=1e-10, atol=1e-10
        )


NONE: dict[str, tuple[str, Forward]] = {
    "twice on one side": ("S", lambda m, h: torch.einsum("nti,oo", h, m.S)),
    "a diagonal": ("S", lambda m, h: torch.einsum("nti,ii->nti", h, m.S)),
    "positions that are summed": ("W", lambda m, h: torch.einsum("ntt,io", h[:, :4], m.W)),
    "a row that is repeated": ("y", lambda m, h: torch.einsum("nti,io", h, m.y)),
    "a row that tensordot repeats": ("y", lambda m, h: torch.tensordot(h, m.y, ([2], [0]))),
    "both are Parameters": ("WV", lambda m, h: h @ torch.einsum("io,oj", m.W, m.V)),
    "of three, one of data": (
        "W",
        lambda m, h: torch.einsum("nti,io,nt->nto", h, m.W, h[..., 0]),
    ),
    "of three": ("WV", lambda m, h: torch.einsum("nti,io,oj", h, m.W, m.V)),
    "tensordot of Parameters": ("WV", lambda m, h: h @ torch.tensordot(m.W, m.V, 1)),
    "over no axis": ("W", lambda m, h: torch.tensordot(h, m.W, dims=0).flatten(2)),
    "over all axes": ("S", lambda m, h: torch.tensordot(h[:, :4], m.S).unsqueeze(1)),
    "over axes in a tensor": (
        "W",
        lambda m, h: torch.tensordot(h, m.W, torch.tensor([[2], [0]])),
    ),
    "a vector": ("v", lambda m, h: torch.inner(h[..., :3], m.v)),
    "a number": ("W", lambda m, h: torch.inner(h, m.W[0, 0])),
    "a scaled product": ("W", lambda m, h: torch.addmm(h[0, :, :2], h[0], m.W, alpha=2)),
    "alpha": (
        "Ec",
        lambda m, h: torch.baddbmm(m.c[:, None], h[:1].expand(3, -1, -1), m.E, alpha=2),
    ),
    "beta": ("Vb", lambda m, h: m.b.addmv(m.V, h[0, 0], beta=2)),
    "a sum over experts": (
        "E",
        lambda m, h: torch.addbmm(torch.zeros(6, 2).double(), h[:1].expand(3, -1, -1), m.E),
    ),
}


@pytest.mark.parametrize("form", NONE)
def test_what_is_no_one_product_is_no_layer(form: str) -> None:
    """And hides no other matrix."""
    own, how = NONE[form]
    question = regression(f"{own}H", lambda m, h: how(m, h).sin().mean() + h @ m.H.flatten(1))
    with pytest.raises(ek.ProblemError, match=r"supported layer covers it.*\('first', 'H'\)"):
        ek.layers_of(question)


def by_autocast(own: str, how: Forward) -> ek.Problem:
    """Of float32, for autocast leaves float64 alone."""

    def forward(m: Bare, h: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return how(m, h).float()

    x = torch.randn(4, 6, 3)
    return ek.Problem(Bare(own, forward), [(x, torch.zeros(4, 6, 2))], ek.Gaussian())


def test_no_sum_is_taken_apart_under_autocast() -> None:
    """It would be rounded in between."""

    def summed(m: Bare, h: Tensor) -> Tensor:
        y = torch.baddbmm(torch.zeros(3, 1, 2), h.flatten(0, 1).expand(3, -1, -1), m.E)
        return y.mean(0).unflatten(0, (-1, 6))

    with pytest.raises(ek.ProblemError, match=r"'E' .*no supported layer.*\('first',\)"):
        ek.layers_of(by_autocast("E", summed))


def test_a_bias_of_one_matrix_taken_several_times_is_not_found() -> None:
    """It would be that of the last time alone."""

    def several(m: Bare, h: Tensor) -> Tensor:
        xs = torch.stack([h.flatten(0, 1), h.flatten(0, 1) ** 2])
        y = torch.baddbmm(m.b.expand(2, 1, -1), xs, m.V.T.expand(2, -1, -1))
        return y.tanh().mean(0).unflatten(0, (-1, 6))

    question = regression("Vb", several)
    with pytest.raises(ek.ProblemError, match=r"'b' .*no supported layer.*\('first', 'V'\)"):
        ek.kfac(question)
    found = ek.kfac(replace(question, layers=("first", "V")))
    assert found["V"].shape == question.model.V.shape


@pytest.mark.parametrize("bias", [True, False])
def test_autocast_rounds_no_vectors(bias: bool) -> None:
    """So what they are multiplied with is no F.linear there, which it does round."""

    def at_each_position(m: Bare, h: Tensor) -> Tensor:
        b = torch.ones(2)
        y = [torch.addmv(b, m.V, x) if bias else torch.mv(m.V, x) for x in h.flatten(0, 1)]
        return torch.stack(y).unflatten(0, (-1, 6))

    with pytest.raises(ek.ProblemError, match=r"'V' .*no supported layer.*\('first',\)"):
        ek.layers_of(by_autocast("V", at_each_position))


def test_an_axis_with_two_partners_is_what_torch_says_of_it() -> None:
    question = regression("", lambda m, h: h)
    question.model.how = lambda m, h: torch.tensordot(h[:, :4], m.first.weight, ([1, 2], [0, 0]))
    with pytest.raises(ek.ProblemError, match=r"appears multiple times"):
        ek.kfac(question)
