"""Parameters that a forward multiplies with by itself, against the same network of modules."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
import ekfac_ref.conformance as ct
from ekfac_ref.model.layers_of import in_projections

SHAPES = {
    "W": (4, 2),
    "V": (2, 4),
    "b": (2,),
    "E": (3, 4, 2),
    "D": (3, 2, 4),
    "c": (3, 2),
    "d": (1,),
    "v": (3,),
    "o": (1, 4, 2),
    "y": (1, 2),
    "s": (2, 2),
    "H": (4, 2, 3),
    "Q": (3, 2, 2),
    "R": (2, 2, 3),
    "P": (2, 3, 4),
    "u": (6,),
    "B": (2, 3),
    "S": (4, 4),
}
Forward = Callable[["Bare", Tensor], Tensor]  # of [N, 5, 4], whatever first made of the data


class Bare(nn.Module):
    """A layer, and Parameters of which ``how`` makes the outputs."""

    W: Tensor
    V: Tensor
    b: Tensor
    E: Tensor
    D: Tensor
    c: Tensor
    d: Tensor
    v: Tensor
    o: Tensor
    y: Tensor
    s: Tensor
    H: Tensor
    Q: Tensor
    R: Tensor
    P: Tensor
    u: Tensor
    B: Tensor
    S: Tensor

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


def by_bmm(weight: Tensor, h: Tensor, bias: Tensor | None = None) -> Tensor:
    """[3, 2 N, 4] times [3, 4, 2], as experts of equal capacity are."""
    by_expert = h.unflatten(1, (3, 2)).transpose(0, 1).flatten(1, 2)
    y = torch.bmm(by_expert, weight)
    y = y if bias is None else y + bias[:, None]
    return y.unflatten(1, (-1, 2)).transpose(0, 1).flatten(1, 2)


def by_vectors(m: "Bare", x: Tensor) -> Tensor:
    return torch.stack(
        [m.V @ one + m.b if t else torch.mv(m.V, one) + m.b for t, one in enumerate(x)]
    )


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
    "V x, x of three axes": ("V", lambda m, h: (m.V @ h.mT).mT),
    "V x + b": ("Vb", lambda m, h: (m.V @ h.mT + m.b[:, None]).mT),
    "V times vectors": ("Vb", lambda m, h: torch.stack([by_vectors(m, one) for one in h])),
    "by names of arguments": ("W", lambda m, h: torch.matmul(input=h, other=m.W)),
    "of the right dtype": ("W", lambda m, h: h @ m.W.to(h.dtype).contiguous()),
    "with an axis in front": ("Wb", lambda m, h: h @ m.W[None] + m.b[None, None]),
    "added by name": ("Wb", lambda m, h: torch.add(h @ m.W, m.b, alpha=1)),
    "a view, and a sum": ("Wb", lambda m, h: ((h @ m.W).mT + m.b[:, None]).mT),
    "einsum, and a sum": (
        "Wb",
        lambda m, h: (torch.einsum("nti,io->tno", h, m.W) + m.b).transpose(0, 1),
    ),
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
    "experts by einsum": (
        "E",
        lambda m, h: torch.einsum("neti,eio->neto", h.unflatten(1, (3, 2)), m.E).flatten(1, 2),
    ),
    "experts by matmul": ("D", lambda m, h: (h.unflatten(1, (3, 2)) @ m.D.mT).flatten(1, 2)),
    "experts from the left": ("D", lambda m, h: (m.D @ h.unflatten(1, (3, 2)).mT).mT.flatten(1, 2)),
    "experts by einsum, and a sum": (
        "Ec",
        lambda m, h: (
            (torch.einsum("neti,eio->nteo", h.unflatten(1, (3, 2)), m.E) + m.c)
            .transpose(1, 2)
            .flatten(1, 2)
        ),
    ),
    "bmm": ("E", lambda m, h: by_bmm(m.E, h)),
    "bmm, and a sum": ("Ec", lambda m, h: by_bmm(m.E, h, m.c)),
    "bmm of a transpose": ("D", lambda m, h: by_bmm(m.D.transpose(1, 2), h)),
}


def problem(model: nn.Module, fisher: ek.Empirical | ek.Exact) -> ek.Problem:
    x, y = torch.randn(5, 6, 3).double(), torch.randn(5, 6, 2).double()
    return ek.Problem(model, [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian(), fisher)


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize(
    ("fisher", "sharing"),
    [(ek.Exact(), ek.Expand()), (ek.Empirical(), ek.Reduce())],
    ids=["exact", "reduce"],
)
@pytest.mark.parametrize("form", FORWARDS)
def test_it_is_the_layer_of_a_module(
    form: str, fisher: ek.Empirical | ek.Exact, sharing: ek.Expand | ek.Reduce
) -> None:
    model = Bare(*FORWARDS[form]).double()
    check_of_modules(model, replace(problem(model, fisher), sharing=sharing))


def check_of_modules(model: Bare, bare: ek.Problem) -> None:
    """Factors, EKFAC and F of the model's problem are those of the same network of modules."""
    modules = replace(bare, model=OfModules(model).double())
    for ask in (ek.kfac, ek.ekfac, ek.exact_fisher):
        found, expected = ask(bare), ask(modules)
        assert len(found) == len(expected)
        for one, other in zip(found.values(), expected.values(), strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one.dense(), other.dense(), rtol=1e-10, atol=1e-10)


STORED: dict[str, tuple[str, Forward, Callable[[Tensor], Tensor]]] = {
    "outputs behind": (
        "H",
        lambda m, h: torch.einsum("nti,ihd->nthd", h, m.H).flatten(2),
        lambda H: H.flatten(1).T,
    ),
    "outputs behind, and a bias": (
        "HB",
        lambda m, h: (
            (torch.einsum("nti,ihd->hntd", h, m.H) + m.B[:, None, None])
            .permute(1, 2, 0, 3)
            .flatten(2)
        ),
        lambda H: H.flatten(1).T,
    ),
    "outputs behind in another order, and a bias": (
        "HB",
        lambda m, h: (torch.einsum("nti,ihd->ntdh", h, m.H) + m.B.T).mT.flatten(2),
        lambda H: H.flatten(1).T,
    ),
    "inputs behind": (
        "Q",
        lambda m, h: torch.einsum("tnab,oab->nto", h.unflatten(-1, (2, 2)).transpose(0, 1), m.Q),
        lambda Q: Q.flatten(1),
    ),
    "inputs in front": (
        "R",
        lambda m, h: torch.einsum("abo,...ab->...o", m.R, h.unflatten(-1, (2, 2))),
        lambda R: R.flatten(0, 1).T,
    ),
    "a view, and a bias": ("Hu", lambda m, h: h @ m.H.flatten(1) + m.u, lambda H: H.flatten(1).T),
    "outputs in front, and a bias": (
        "Pu",
        lambda m, h: F.linear(h, m.P.view(6, 4), m.u),
        lambda P: P.flatten(0, 1),
    ),
    "square": ("S", lambda m, h: h @ m.S, lambda S: S.T),
    "square, transposed": ("S", lambda m, h: h @ m.S.T, lambda S: S),
}


@pytest.mark.parametrize("form", STORED)
def test_a_matrix_is_what_its_strides_say(form: str) -> None:
    own, how, matrix = STORED[form]
    question = regression(own, lambda m, h: how(m, h).tanh())
    weight = matrix(getattr(question.model, own[0])).detach()
    linear = nn.Linear(*weight.T.shape, bias=len(own) > 1).double()
    with torch.no_grad():
        linear.weight.copy_(weight)
        if len(own) > 1:
            linear.bias.copy_(getattr(question.model, own[1]).flatten())
    plain = replace(
        question, model=nn.Sequential(question.model.first, nn.Tanh(), linear, nn.Tanh())
    )
    for ask in (ek.kfac, ek.ekfac, ek.exact_fisher):
        found, expected = ask(question), ask(plain)
        assert list(found) == ["first", own[0]]
        torch.testing.assert_close(found[own[0]].dense(), expected["2"].dense())
    layer = ek.layers_of(question)[1]
    values = dict(question.model.named_parameters())
    for name, x in layer.from_matrix(layer.to_matrix(values)).items():
        assert torch.equal(x, values[name])


def test_one_matrix_and_a_stack_at_once_are_neither() -> None:
    question = regression("R", lambda m, h: h @ m.R.flatten(0, 1) + h[..., :2] @ m.R[0])
    with pytest.raises(ek.ProblemError, match="no supported layer covers it"):
        ek.kfac(question)


class TransposedInForward(nn.Linear):
    """As Falcon's."""

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_linear_layer_may_multiply_by_itself(bias: bool) -> None:
    model = nn.Sequential(*(TransposedInForward(n, m, bias=bias) for n, m in ((3, 4), (4, 2))))
    plain = nn.Sequential(*(nn.Linear(n, m, bias=bias) for n, m in ((3, 4), (4, 2))))
    plain.load_state_dict(model.state_dict())
    own, expected = problem(model.double(), ek.Exact()), problem(plain.double(), ek.Exact())
    expected.batches[:] = own.batches
    found, truth = ek.ekfac(own), ek.ekfac(expected)
    assert {*found} == {*truth} == {"0", "1"}
    for name in found:
        torch.testing.assert_close(found[name].dense(), truth[name].dense(), rtol=1e-12, atol=1e-12)


EVERYWHERE: dict[str, tuple[str, Forward]] = {
    "a loop": ("E", lambda m, h: torch.stack([h @ W for W in m.E], 1)),
    "matmul": ("E", lambda m, h: h[:, None] @ m.E),
    "matmul of a matrix": ("E", lambda m, h: torch.stack([one @ m.E for one in h])),
    "einsum": ("E", lambda m, h: torch.einsum("...ti,eio->...eto", h, m.E)),
    "einsum of a transpose": ("D", lambda m, h: torch.einsum("eoi,nti->neto", m.D, h)),
}


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("form", EVERYWHERE)
def test_all_experts_may_get_all_tokens(form: str) -> None:
    """A is the mean over all tokens for each of them, and E has the trace of F."""
    own, how = EVERYWHERE[form]
    question = regression(own, lambda m, h: how(m, h).tanh())
    h = question.model.first(question.batches[0][0]).tanh().detach().flatten(0, 1)
    K, E, F_ = ek.kfac(question), ek.ekfac(question), ek.exact_fisher(question)
    for name in (f"{own}[{e}]" for e in range(3)):
        torch.testing.assert_close(K[name].A, h.T @ h / len(h))
        torch.testing.assert_close(E[name].trace(), F_[name].trace())


def test_positions_that_an_einsum_sums_are_positions() -> None:
    summed = regression("W", lambda m, h: torch.einsum("nti,io->no", h, m.W).tanh())
    apart = replace(summed, model=copy.deepcopy(summed.model))
    apart.model.how = lambda m, h: (h @ m.W).sum(1).tanh()
    for one, other in zip(ek.ekfac(summed).values(), ek.ekfac(apart).values(), strict=True):
        torch.testing.assert_close(one.dense(), other.dense())


def regression(own: str, how: Forward, **more: Any) -> ek.Problem:
    model = Bare(own, how).double()
    x = torch.randn(4, 6, 3).double()
    return ek.Problem(model, [(x, torch.zeros_like(model(x)))], ek.Gaussian(), **more)


@pytest.mark.parametrize(
    ("own", "how"),
    [
        ("V", lambda m, h: h @ m.V.T @ m.V),
        ("W", lambda m, h: h @ m.W + m.W.sum()),
        ("W", lambda m, h: h @ m.W.clone()),
        ("WV", lambda m, h: h @ (m.W @ m.V)),
        ("W", lambda m, h: torch.einsum("nti,io->nt", h, m.W)),
        ("W", lambda m, h: torch.einsum("nti,io->ntio", h, m.W)),
        ("W", lambda m, h: torch.einsum("nii,io->no", h[:, :4], m.W)),
        ("o", lambda m, h: torch.einsum("enti,eio->nto", torch.stack([h, h**2]), m.o)),
        ("y", lambda m, h: torch.einsum("nti,io->nto", h, m.y)),
        ("Q", lambda m, h: torch.einsum("niab,aob->nio", h.mT.unflatten(-1, (3, 2)), m.Q)),
        ("W", lambda m, h: torch.einsum("ntti,io->nto", h[:, None].expand(-1, 6, -1, -1), m.W)),
        (
            "W",
            lambda m, h: torch.addmm(
                torch.ones(2).double(), h.flatten(0, 1), m.W, alpha=2.0
            ).unflatten(0, (-1, 6)),
        ),
    ],
    ids=[
        "both sides",
        "a sum",
        "a copy",
        "a product",
        "einsum to one",
        "einsum to all",
        "diagonal",
        "one matrix for two",
        "one row for four",
        "inputs around outputs",
        "diagonal of positions",
        "alpha",
    ],
)
def test_what_is_no_one_product_is_no_layer(own: str, how: Forward) -> None:
    """The gradients of such a Parameter are there, as a row."""
    question = regression(own, how)
    with pytest.raises(ek.ProblemError, match=r"no supported layer covers it.*layers=\('first',\)"):
        ek.kfac(question)
    for name in own:
        assert ek.exact_fisher(question)[name].shape == (1, getattr(question.model, name).numel())


def test_a_bias_that_is_used_beside_is_refused() -> None:
    question = regression("Wb", lambda m, h: (h @ m.W + m.b) * m.b)
    with pytest.raises(ek.ProblemError, match=r"layer 'W': its weight or bias is used outside"):
        ek.kfac(question)


def test_an_output_that_goes_on_without_its_bias_is_refused() -> None:
    question = regression("Wb", lambda m, h: (y := h @ m.W).sin() + (y + m.b))
    with pytest.raises(ek.ProblemError, match="layer 'W': its gradients as seen here differ"):
        ek.kfac(question)


@pytest.mark.parametrize(
    ("own", "how"),
    [
        ("Wb", lambda m, h: (h @ m.W) * m.b),
        ("Wd", lambda m, h: h @ m.W + m.d),
        ("Wbc", lambda m, h: h @ m.W + m.b + (h @ m.W + m.c[0])),
        ("Wv", lambda m, h: h @ m.W + m.v[1:]),
        ("Ws", lambda m, h: h @ m.W + m.s[:, 0]),
        ("Wb", lambda m, h: ((h[:, :2] @ m.W).mT + m.b).mT),
        ("Wd", lambda m, h: ((h @ m.W).mT + m.d).mT),
        ("Wb", lambda m, h: (h @ m.W)[:, :3] + m.b),
        ("Wb", lambda m, h: torch.add(h @ m.W, m.b, alpha=2)),
    ],
    ids=[
        "a scale",
        "one for all outputs",
        "one of two",
        "a part",
        "a column",
        "one for each position",
        "one for all positions",
        "of some positions",
        "twice",
    ],
)
def test_what_is_no_bias_is_a_parameter_by_itself(own: str, how: Forward) -> None:
    question = regression(own, how)
    advice = rf"'{own[1]}' .* no supported layer.*\('first', 'W'\)"
    for ask in (ek.kfac, ek.layers_of):
        with pytest.raises(ek.ProblemError, match=advice):
            ask(question)
    found = ek.kfac(replace(question, layers=("first", "W")))
    assert {name: one.shape for name, one in found.items()} == {"first": (4, 4), "W": (2, 4)}


def test_a_bias_of_two_matrices_is_that_of_neither() -> None:
    question = regression("WVb", lambda m, h: h @ m.W + m.b + (h @ m.V.T + m.b).sin())
    with pytest.raises(ek.ProblemError, match=r"'b' .* no supported layer.*\('first', 'W', 'V'\)"):
        ek.kfac(question)
    found = ek.kfac(replace(question, layers=("first", "W", "V")))
    assert [one.shape for one in found.values()] == [(4, 4), (2, 4), (2, 4)]


def test_entries_of_another_matrix_are_no_bias() -> None:
    question = regression("Ec", lambda m, h: h @ m.E[0] + m.c[0] + (h @ m.E[1] + m.c[0]))
    names = ("first", "E[0]", "E[1]")
    with pytest.raises(ek.ProblemError, match=r"'c' .* no supported layer"):
        ek.kfac(question)
    assert [one.shape for one in ek.kfac(replace(question, layers=names)).values()] == [
        (4, 4),
        (2, 4),
        (2, 4),
    ]


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
def test_a_matrix_that_the_first_sample_does_not_use() -> None:
    def where_positive(m: Bare, h: Tensor) -> Tensor:
        return torch.stack([one @ m.W if one[0, 0] > 0 else one[:, :2] for one in h])

    model = Bare("W", where_positive).double()
    x = torch.randn(4, 6, 3).double()
    x[0] = -x[1]
    with torch.no_grad():
        model.first.bias.zero_()
        x[:2] *= -model.first(x)[0, 0, 0].sign()
        h = model.first(x).tanh().detach()
    assert h[0, 0, 0] < 0 < h[1, 0, 0]
    K = ek.kfac(ek.Problem(model, [(x, torch.randn(4, 6, 2).double())], ek.Gaussian()))["W"]
    seen = h[h[:, 0, 0] > 0].flatten(0, 1)
    torch.testing.assert_close(K.A, seen.T @ seen / len(seen))


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
def test_a_matrix_that_the_first_batch_does_not_use() -> None:
    """As an expert that is a module: the batches behind are looked at."""

    def where_positive(m: Bare, h: Tensor) -> Tensor:
        used = h[:, 0, 0] > 0
        return torch.where(used[:, None, None], h @ m.W, h[..., :2]) if used.any() else h[..., :2]

    model = Bare("W", where_positive).double()
    x, y = torch.randn(6, 6, 3).double(), torch.randn(6, 6, 2).double()
    sign = model.first(x).detach()[:, 0, 0].sign()
    order = sign.argsort()
    assert sign.min() < 0 < sign.max()
    batches = [(x[one : one + 1], y[one : one + 1]) for one in order]
    late, early = (
        ek.ekfac(ek.Problem(model, data, ek.Gaussian()))["W"].dense()
        for data in (batches, batches[::-1])
    )
    torch.testing.assert_close(late, early)


def of_two_experts(m: Bare, h: Tensor) -> Tensor:
    return h @ m.E[0] + h**2 @ m.E[2]


def test_one_of_several_matrices_can_be_named() -> None:
    every = regression("E", of_two_experts, fisher=ek.Empirical())
    whole = ek.exact_fisher(replace(every, layers=("E",)))["E"].dense()
    assert whole.shape == (24, 24)
    own = [16 + 2 * i + o for o in range(2) for i in range(4)]  # [out, in] of [3, in, out]
    (ekfac,) = ek.ekfac(replace(every, layers=("E[2]",))).values()
    torch.testing.assert_close(ekfac.trace(), whole[own][:, own].trace())
    (fisher,) = ek.exact_fisher(replace(every, layers=("E[2]",))).values()
    torch.testing.assert_close(fisher.dense(), whole[own][:, own])


def test_one_of_the_matrices_of_a_bmm_can_be_named() -> None:
    every = problem(Bare(*FORWARDS["bmm"]).double(), ek.Empirical())
    whole, (one,) = ek.ekfac(every)["E[1]"], ek.ekfac(replace(every, layers=("E[1]",))).values()
    torch.testing.assert_close(one.dense(), whole.dense())


def test_what_a_forward_writes_into_is_no_layer() -> None:
    def doubling(m: Bare, h: Tensor) -> Tensor:
        with torch.no_grad():
            m.W.mul_(2)
        return h @ m.W

    with pytest.raises(ek.ProblemError, match="no supported layer covers it"):
        ek.kfac(regression("W", doubling))


def test_a_sum_over_outputs_side_by_side_is_no_bias_of_each() -> None:
    """The two axes of matrices and positions are one there."""
    question = regression("Ec", lambda m, h: (h[:, None] @ m.E).flatten(1, 2) + m.c[0])
    with pytest.raises(ek.ProblemError, match=r"'c' .* no supported layer"):
        ek.kfac(question)


def test_a_column_of_biases_is_none_of_them() -> None:
    question = regression("Ec", lambda m, h: h @ m.E[0] + m.c[:2, 0])
    with pytest.raises(ek.ProblemError, match=r"'c' .* no supported layer"):
        ek.kfac(question)


def test_a_matrix_that_is_never_used_is_told() -> None:
    question = regression("E", of_two_experts)
    advice = r"layer 'E\[1\]': its weight was never used.*\('first', 'E\[0\]', 'E\[2\]'\)"
    with pytest.raises(ek.ProblemError, match=advice):
        ek.kfac(question)


def test_layers_of_a_problem_are_those_that_it_has_factors_of() -> None:
    question = regression("Wbc", lambda m, h: h @ m.W + m.b + m.c.sum(), layers=("first", "W"))
    before = [p.clone() for p in question.model.parameters()]
    layers = ek.layers_of(question)
    assert [(x.name, x.shape, x.parameters) for x in layers] == [
        ("first", (4, 4), ("first.weight", "first.bias")),
        ("W", (2, 5), ("W", "b")),
    ]
    assert layers[1].weight is question.model.W
    there = layers[1].from_matrix(torch.arange(10.0).reshape(2, 5))
    torch.testing.assert_close(there["W"], torch.tensor([[0.0, 5], [1, 6], [2, 7], [3, 8]]))
    torch.testing.assert_close(there["b"], torch.tensor([4.0, 9]))
    assert ek.exact_fisher(replace(question, layers=("W",)))["W"].shape == (2, 5)
    assert [x.name for x in ek.parameters_of(replace(question, layers=None))] == ["first", "W", "c"]
    assert all(torch.equal(p, q) for p, q in zip(before, question.model.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize(
    ("own", "how"),
    [
        ("oy", lambda m, h: h @ m.o[0] + m.y[0]),
        ("oy", lambda m, h: h @ m.o + m.y),
        ("oy", lambda m, h: torch.cat([one @ m.o + m.y for one in h])),
        ("Wy", lambda m, h: h @ m.W + m.y),
    ],
)
def test_a_stack_of_one_matrix_and_a_bias_of_two_axes(own: str, how: Forward) -> None:
    question = regression(own, how)
    alike = regression("Wb", lambda m, h: h @ m.W + m.b)
    alike.model.load_state_dict(
        {n: p[0] if n in "oy" else p for n, p in question.model.state_dict().items()}
        | {"W": getattr(question.model, own[0]).reshape(4, 2), "b": question.model.y[0]},
        strict=False,
    )
    alike = replace(alike, batches=question.batches)
    (found, expected) = (ek.ekfac(one) for one in (question, alike))
    assert {*found} == {"first", {"o": "o[0]", "W": "W"}[own[0]]}
    for one, other in zip(found.values(), expected.values(), strict=True):
        torch.testing.assert_close(one.dense(), other.dense())


def test_a_matrix_that_is_kept_by_columns() -> None:
    question = regression("W", lambda m, h: h @ m.W)
    rows = {name: one.dense() for name, one in ek.ekfac(question).items()}
    question.model.W.data = question.model.W.data.T.contiguous().T
    for name, one in ek.ekfac(question).items():
        torch.testing.assert_close(one.dense(), rows[name])


def test_biases_that_are_kept_by_columns_are_no_rows() -> None:
    """Column e of a transpose follows itself in memory, but is no row e of the Parameter."""
    how = lambda m, h: h @ m.E[0] + m.s[:, 0] + (h**2 @ m.E[1] + m.s[:, 1]).sin()  # noqa: E731
    question = regression("Es", how, layers=("first", "E[0]", "E[1]"))
    question.model.s.data = question.model.s.data.T.contiguous().T
    assert [one.shape for one in ek.kfac(question).values()] == [(4, 4), (2, 4), (2, 4)]
    with pytest.raises(ek.ProblemError, match=r"'s' .* no supported layer"):
        ek.kfac(replace(question, layers=None))


def test_a_name_may_have_brackets_of_its_own() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of = nn.ParameterDict({"w[0]": torch.randn(3, 2), "s[0]": torch.randn(2, 2, 2)})

        def forward(self, x: Tensor) -> Tensor:
            y = x @ self.of["w[0]"]
            return y @ self.of["s[0]"][0] + y**2 @ self.of["s[0]"][1]

    every = problem(Named().double(), ek.Exact())
    names = ["of.w[0]", "of.s[0][0]", "of.s[0][1]"]
    assert sorted(layer.name for layer in ek.layers_of(every)) == sorted(names)
    assert list(ek.kfac(replace(every, layers=("of.s[0][1]",)))) == ["of.s[0][1]"]


def test_of_a_stack_of_matrices_the_others_are_left_as_they_are() -> None:
    question = regression("Dc", lambda m, h: sum(F.linear(h, m.D[e], m.c[e]) for e in range(3)))
    layer = ek.layers_of(question)[2]
    assert layer.name == "D[1]"
    assert in_projections(ek.layers_of(question)) == {}  # three in one Parameter, and no attention
    others = {"D": torch.ones(3, 2, 4), "c": torch.ones(3, 2)}
    there = layer.from_matrix(torch.arange(10.0).reshape(2, 5), others)
    torch.testing.assert_close(there["D"][1], torch.arange(10.0).reshape(2, 5)[:, :4])
    torch.testing.assert_close(there["c"][1], torch.tensor([4.0, 9]))
    torch.testing.assert_close(there["D"][[0, 2]], torch.ones(2, 2, 4))
    torch.testing.assert_close(there["c"][[0, 2]], torch.ones(2, 2))


def test_the_kit_asks_about_them() -> None:
    """Every law holds of the reference, on a network with one."""
    question = regression("Wb", lambda m, h: (h @ m.W + m.b).tanh())
    right = ct.Subject("right", ekfac=ek.ekfac, kfac=ek.kfac, exact_fisher=ek.exact_fisher)
    assert not any(ct.ask(right, question).values())
    assert ct.Separate().differs(question, "W")


class Counted(list[Any]):
    """Batches that count the passes over them."""

    passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        return super().__iter__()


def test_data_is_read_once_more_only_where_there_is_something_to_find() -> None:
    bare = regression("Wb", lambda m, h: h @ m.W + m.b)
    for names, passes in ((("first",), 1), (("first", "W"), 2)):
        data = Counted(bare.batches)
        assert {*ek.kfac(replace(bare, batches=data, layers=names))} == {*names}
        assert data.passes == passes


def test_a_check_on_such_a_model_names_the_matrix_that_is_wrong() -> None:
    question = regression("E", EVERYWHERE["matmul"][1])
    right = ct.Subject("right", ekfac=ek.ekfac)
    assert ct.check_on(right, question).exit_code == 0

    def doubled(problem: ek.Problem) -> Any:
        return {n: E.scaled(2.0) if n == "E[1]" else E for n, E in ek.ekfac(problem).items()}

    wrong = ct.Subject("wrong", ekfac=doubled)
    said, factor = ct.check_on(wrong, question, laws=["trace"]).sentences
    assert said.startswith("Wrong exactly where layer E[1]: 1 of 1 such blocks, 0 of 3 others")
    assert "on its wrong block: times 2, which is " in factor
