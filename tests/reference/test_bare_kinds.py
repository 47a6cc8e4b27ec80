"""Tables that a forward looks up by itself, and kernels, against layers of modules."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
import ekfac_ref.conformance as ct
from ekfac_ref.optim import EKFAC

How = Callable[["Bare", Tensor], Tensor]  # of data, or of words


class Bare(nn.Module):
    """What ``how`` makes of the Parameters p and b, and then a layer."""

    b: Tensor

    def __init__(self, p: Tensor, b: Tensor | None, how: How) -> None:
        super().__init__()
        self.p, self.how, self.last = nn.Parameter(p.detach().clone()), how, nn.Linear(3, 2)
        if b is not None:
            self.b = nn.Parameter(b.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.how(self, x).tanh().flatten(1).unflatten(1, (-1, 3)).mean(1))


class OfModules(nn.Module):
    """The same function, by a module that has p and b."""

    def __init__(self, bare: Bare, own: nn.Module, how: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.own, self.how, self.last = own, how, bare.last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.how(self.own, x).tanh().flatten(1).unflatten(1, (-1, 3)).mean(1))


def called(own: Any, x: Tensor) -> Tensor:
    return own(x)


def of_data(model: nn.Module, x: Tensor, **more: Any) -> ek.Problem:
    y = torch.randn(len(x), 2).double()
    return ek.Problem(model.double(), [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian(), **more)


def check_alike(bare: ek.Problem, modules: ek.Problem) -> None:
    """Factors, EKFAC and F of p are those of the module."""
    for ask in (ek.kfac, ek.ekfac, ek.exact_fisher):
        found, expected = ask(bare), ask(modules)
        assert {*found} == {"p", "last"}
        torch.testing.assert_close(
            found["last"].dense(), expected["last"].dense(), rtol=1e-10, atol=1e-10
        )
        one, other = found["p"], expected["own"]
        assert one.shape == other.shape
        torch.testing.assert_close(one.dense(), other.dense(), rtol=1e-10, atol=1e-10)
    (layer,) = (x for x in ek.layers_of(bare) if x.name == "p")
    values = dict(bare.model.named_parameters())
    for name, x in layer.from_matrix(layer.to_matrix(values)).items():
        assert torch.equal(x, values[name])


WORDS = torch.tensor([[1, 4, 1], [0, 0, 0], [4, 2, 3], [2, 2, 5], [5, 1, 0]])
SECOND = torch.tensor([4, 1, 4])
LOOKUPS: dict[str, tuple[How, Callable[[Any, Tensor], Tensor]]] = {
    "embedding": (lambda m, x: F.embedding(x, m.p), called),
    "embedding, by names": (lambda m, x: F.embedding(weight=m.p, input=x.int()), called),
    "with padding": (
        lambda m, x: F.embedding(x, m.p, padding_idx=-2),
        lambda own, x: F.embedding(x, own.weight, padding_idx=4),
    ),
    "by brackets": (lambda m, x: m.p[x], called),
    "by brackets, with all columns": (lambda m, x: m.p[x.int(), :], called),
    "from behind": (lambda m, x: m.p[torch.where(x > 3, x - 6, x)], called),
    "index_select": (
        lambda m, x: torch.index_select(m.p, 0, x.flatten()).unflatten(0, x.shape),
        called,
    ),
    "index_select, by names": (
        lambda m, x: m.p.index_select(dim=-2, index=x.flatten()).unflatten(0, x.shape),
        called,
    ),
    "twice": (lambda m, x: m.p[x] * m.p[x.flip(1)], lambda own, x: own(x) * own(x.flip(1))),
    "a table of positions": (
        lambda m, x: m.p[SECOND] + x[..., None] * 0.1,
        lambda own, x: own(SECOND) + x[..., None] * 0.1,
    ),
}


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("form", LOOKUPS)
def test_a_table_is_the_layer_of_an_embedding(form: str) -> None:
    how, of_module = LOOKUPS[form]
    bare = of_data(Bare(torch.randn(6, 3), None, how), WORDS)
    own = nn.Embedding(6, 3, _weight=bare.model.p.detach().clone())
    check_alike(bare, replace(bare, model=OfModules(bare.model, own, of_module)))


KERNELS: dict[str, tuple[nn.Module, How, tuple[int, ...]]] = {
    "conv1d": (
        nn.Conv1d(2, 3, 3, stride=2, bias=False),
        lambda m, x: F.conv1d(x, m.p, stride=2),
        (2, 7),
    ),
    "conv1d with a bias": (
        nn.Conv1d(4, 6, 2, groups=2, padding="same"),
        lambda m, x: F.conv1d(x, m.p, m.b, padding="same", groups=2),
        (4, 3),
    ),
    "conv1d, depthwise, given without its axis of length 1": (
        nn.Conv1d(3, 3, 2, groups=3),
        lambda m, x: F.conv1d(x, m.p.squeeze(1).unsqueeze(1), m.b[:], groups=3),
        (3, 4),
    ),
    "conv2d, depthwise": (
        nn.Conv2d(3, 3, 2, dilation=(1, 2), padding=1, groups=3),
        lambda m, x: torch.conv2d(x, m.p, m.b, 1, 1, (1, 2), 3),
        (3, 3, 4),
    ),
    "conv2d, by names": (
        nn.Conv2d(2, 3, (2, 1), bias=False),
        lambda m, x: F.conv2d(weight=m.p, input=x),
        (2, 3, 2),
    ),
    "conv3d": (nn.Conv3d(1, 3, 2), lambda m, x: F.conv3d(x, m.p, m.b), (1, 3, 2, 2)),
    "conv_transpose1d": (
        nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2),
        lambda m, x: F.conv_transpose1d(x, m.p, m.b, 2, groups=2),
        (4, 3),
    ),
    "conv_transpose2d": (
        nn.ConvTranspose2d(2, 3, 2, bias=False),
        lambda m, x: F.conv_transpose2d(x, m.p),
        (2, 2, 2),
    ),
    "conv_transpose3d": (
        nn.ConvTranspose3d(1, 3, 2, bias=False),
        lambda m, x: F.conv_transpose3d(x, m.p),
        (1, 2, 1, 1),
    ),
    "bilinear": (nn.Bilinear(2, 4, 3), lambda m, x: F.bilinear(x[:, :2], x, m.p, m.b), (4,)),
}


@pytest.mark.parametrize("form", KERNELS)
def test_a_kernel_is_the_layer_of_a_module(form: str) -> None:
    own, how, shape = KERNELS[form]
    bare = of_data(Bare(own.weight, own.bias, how), torch.randn(5, *shape).double())
    both = isinstance(own, nn.Bilinear)
    of_module = OfModules(bare.model, own, lambda f, x: f(x[:, :2], x) if both else f(x))
    check_alike(bare, replace(bare, model=of_module.double()))


@pytest.mark.parametrize(
    "how",
    [
        lambda m, x: m.p[torch.tensor([1, 0, 0, 1, 1, 0], dtype=torch.bool)] + x[..., None],
        lambda m, x: m.p[:, SECOND % 3][x],
        lambda m, x: torch.index_select(m.p, 1, SECOND % 3)[x],
        lambda m, x: m.p[x, SECOND % 3],
        lambda m, x: m.p[x, 1:2].expand(-1, -1, 3),
        lambda m, x: m.p[x, :, None],
        lambda m, x: m.p.tanh()[x],
        lambda m, x: m.p[x] + m.p[x[:, :1]] * m.p.sum(),
        lambda m, x: m.p[x] @ m.p.T @ m.p,
        lambda m, x: m.p[1:][x % 5],
        lambda m, x: m.p[torch.tensor(2)] * x[..., None],
        lambda m, x: torch.stack([m.p.index_select(0, torch.tensor(2))] * 3, 1) * x[..., None],
        lambda m, x: F.embedding_bag(x, m.p, mode="max"),
    ],
    ids=[
        "a mask",
        "columns",
        "columns by index_select",
        "entries",
        "a part of rows",
        "with an axis behind",
        "a function of it",
        "beside a sum",
        "on both sides",
        "a part of the table",
        "a row",
        "a row by index_select",
        "bags",
    ],
)
def test_what_is_no_lookup_is_no_layer(how: How) -> None:
    question = of_data(Bare(torch.randn(6, 3), None, how), WORDS)
    with pytest.raises(ek.ProblemError, match=r"'p' .*no supported layer.*layers=\('last',\)"):
        ek.kfac(question)
    assert ek.exact_fisher(question)["p"].shape == (1, 18)


def test_an_option_that_changes_gradients_hides_no_other_matrix() -> None:
    def forward(m: Bare, x: Tensor) -> Tensor:
        return F.embedding(x, m.p, scale_grad_by_freq=True) @ m.b

    question = of_data(Bare(torch.randn(6, 3), torch.randn(3, 3), forward), WORDS)
    with pytest.raises(ek.ProblemError, match=r"'p' .*no supported layer.*\('last', 'b'\)"):
        ek.kfac(question)


def test_the_weight_of_an_Embedding_may_be_looked_up_by_brackets() -> None:
    """Its row of padding is trained there, as the module's call would not."""
    brackets = of_data(Bare(torch.randn(6, 3), None, lambda m, x: m.own.weight[x]), WORDS)
    del brackets.model.p
    brackets.model.own = nn.Embedding(6, 3, padding_idx=0).double()
    without = nn.Embedding(6, 3, _weight=brackets.model.own.weight.detach().clone())
    plain = replace(brackets, model=OfModules(brackets.model, without, called))
    for name, one in ek.ekfac(brackets).items():
        torch.testing.assert_close(one.dense(), ek.ekfac(plain)[name].dense())


@pytest.mark.parametrize(
    "how",
    [
        lambda m, x: F.conv1d(x[:, :2], m.p) + F.conv1d(x, m.p, groups=2),
        lambda m, x: F.conv1d(x[:, :2], m.p) * m.p.sum(),
        lambda m, x: F.conv1d(x[:, :2], m.p) + (x[:, :, 0] @ m.p.flatten(1)[:, :4])[..., None],
        lambda m, x: F.conv1d(x[:, :2], m.p.flip(-1)),
        lambda m, x: F.conv1d(x[:, :2], m.p[:3]),
        lambda m, x: F.conv1d(m.p, torch.ones(1, 2, 1).double()) * x.mean(),
    ],
    ids=["in two groupings", "beside a sum", "and a product", "reversed", "in part", "an input"],
)
def test_a_kernel_that_is_used_otherwise_is_no_layer(how: How) -> None:
    """And hides no other matrix."""
    p, b, x = torch.randn(4, 2, 3), torch.randn(3, 3), torch.randn(5, 4, 5).double()
    question = of_data(Bare(p, b, lambda m, x: how(m, x).mean() + x[..., :3] @ m.b), x)
    with pytest.raises(ek.ProblemError, match=r"'p' .*no supported layer.*\('last', 'b'\)"):
        ek.kfac(question)


class InTwoGroupings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p, self.last = nn.Parameter(torch.randn(2, 2, 2)), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv1d(x, self.p, groups=x.shape[1] // 2)
        return self.last(y.tanh().sum(2))


@pytest.mark.parametrize("order", [1, -1])
def test_another_grouping_on_a_later_batch_is_refused(order: int) -> None:
    batches = [(torch.randn(2, 2 * g, 3).double(), torch.zeros(2, 2).double()) for g in (1, 2)]
    question = ek.Problem(InTwoGroupings().double(), batches[::order], ek.Gaussian())
    with pytest.raises(ek.ProblemError, match=r"'p': it is called in .* groups.*\('last',\)"):
        ek.kfac(question)


class Logging(nn.Module):
    """Embeds words, and looks at its table for a log."""

    def __init__(self, look: Callable[[nn.Embedding], Tensor]) -> None:
        super().__init__()
        self.table, self.look, self.seen = nn.Embedding(5, 2), look, 0.0

    def forward(self, words: Tensor) -> Tensor:
        with torch.no_grad():
            self.seen = self.look(self.table).item()
        return self.table(words).tanh().sum(1)


def test_rows_that_are_looked_at_without_gradients_are_no_positions() -> None:
    words, y = torch.tensor([[0, 1], [2, 2], [4, 0]]), torch.zeros(3, 2).double()
    row = torch.tensor([3])
    model = Logging(lambda table: table.weight[row].norm()).double()
    A = ek.kfac(ek.Problem(model, [(words, y)], ek.Gaussian()))["table"].A
    torch.testing.assert_close(A.diagonal(), torch.tensor([2, 1, 2, 0, 1]).double() / 6)


def test_a_call_without_gradients_has_the_output_that_it_has() -> None:
    """One row, though it is a position of every sample; its g is 0."""
    words, y = torch.tensor([[0, 1], [2, 2], [4, 0]]), torch.zeros(3, 2).double()
    row = torch.tensor([3])
    model = Logging(lambda table: table(row).norm(dim=1)).double()
    A = ek.kfac(ek.Problem(model, [(words, y)], ek.Gaussian()))["table"].A
    torch.testing.assert_close(A.diagonal(), torch.tensor([2, 1, 2, 3, 1]).double() / 9)


def test_inputs_that_are_Parameters_hide_no_matrix() -> None:
    """As the latent rows of a Perceiver: a row by themselves, and W is a layer."""

    class Latent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows, self.first = nn.Parameter(torch.randn(4, 3)), nn.Linear(3, 3)
            self.W = nn.Parameter(torch.randn(3, 2))

        def forward(self, x: Tensor) -> Tensor:
            return (self.first(self.rows).mean(0) * x).tanh() @ self.W

    question = of_data(Latent(), torch.randn(5, 3).double(), layers=("W",))
    (E,), (fisher,) = ek.ekfac(question).values(), ek.exact_fisher(question).values()
    torch.testing.assert_close(E.trace(), fisher.trace())
    with pytest.raises(ek.ProblemError, match=r"'rows' .*layers=\('first', 'W'\)"):
        ek.kfac(replace(question, layers=None))


class Several(nn.Module):
    """A table, a kernel with groups and a bias, and a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.matrix = nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4, 2))
        self.kernel, self.bias = nn.Parameter(torch.randn(4, 2, 2)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv1d(self.table[x].mT, self.kernel, self.bias, groups=2).tanh()
        return torch.tensordot(h.sum(-1), self.matrix, 1)


class SeveralModules(nn.Module):
    def __init__(self, bare: Several) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4, _weight=bare.table.detach().clone())
        self.kernel, self.matrix = nn.Conv1d(4, 4, 2, groups=2), nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.kernel.weight.copy_(bare.kernel)
            self.kernel.bias.copy_(bare.bias)
            self.matrix.weight.copy_(bare.matrix.T)

    def forward(self, x: Tensor) -> Tensor:
        return self.matrix(self.kernel(self.table(x).mT).tanh().sum(-1))


def test_optimizers_move_them_as_they_move_modules() -> None:
    bare = Several().double()
    modules = SeveralModules(bare).double()
    layers = ek.layers_of(of_data(bare, WORDS))
    assert [(x.name, x.parameters, x.groups) for x in layers] == [
        ("table", ("table",), 1),
        ("matrix", ("matrix",), 1),
        ("kernel", ("kernel", "bias"), 2),
    ]
    steps = [EKFAC(bare, ek.Gaussian(), layers=layers), EKFAC(modules, ek.Gaussian())]
    for _ in range(3):
        x, y = torch.randint(6, (8, 3)), torch.randn(8, 2).double()
        for model, optimizer in zip((bare, modules), steps, strict=True):
            optimizer.zero_grad()
            (0.5 * (model(x) - y).square().sum(1).mean()).backward()
            optimizer.update(x, y)
            optimizer.step()
    torch.testing.assert_close(bare.table, modules.table.weight)
    torch.testing.assert_close(bare.kernel, modules.kernel.weight)
    torch.testing.assert_close(bare.bias, modules.kernel.bias)
    torch.testing.assert_close(bare.matrix, modules.matrix.weight.T)


def test_the_kit_asks_about_them() -> None:
    question = of_data(Several(), WORDS)
    right = ct.Subject("right", ekfac=ek.ekfac, kfac=ek.kfac, exact_fisher=ek.exact_fisher)
    assert not any(ct.ask(right, question).values())

    def doubled(problem: ek.Problem) -> Any:
        return {n: E.scaled(2.0) if n == "kernel" else E for n, E in ek.ekfac(problem).items()}

    wrong = ct.Subject("wrong", ekfac=doubled)
    said, factor = ct.check_on(wrong, question, laws=["trace"]).sentences
    assert said.startswith("Wrong exactly where layer kernel: 2 of 2 such blocks, 0 of 2 others")
    assert "on its 2 wrong blocks: times 2, which is " in factor
