"""What a forward leaves behind in its modules is seen by no other call, here or the caller's."""

import copy
import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

import ekfac_ref as ek
from ekfac_ref.model.copies.as_before import keep_as_before
from ekfac_ref.model.copies.replica import Replica

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()
Y = torch.randn(4, 2, generator=torch.Generator().manual_seed(2)).double()
POINTS, ONE = torch.tensor([[1.0, 2.0]]).double(), torch.tensor(1.0).double()


class Keeping(nn.Module):
    """A network, a layer whose outputs are the same for all samples, and a buffer."""

    scale: Tensor

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **kept: Any) -> None:
        super().__init__()
        self.run, self.net, self.points = run, nn.Linear(3, 2), nn.Linear(2, 3)
        self.register_buffer("scale", torch.tensor(1.0))
        for name, value in kept.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class Cache:
    """Beside the modules, as those of attention are."""

    table: Tensor | None = None


class Tables(dict[str, Tensor]):
    """By whatever names."""

    def __iter__(self) -> Any:
        raise RuntimeError("nobody is to go through them")


def a_table(m: Any, x: Tensor) -> Tensor:
    if m.table is None:
        m.table = m.points(POINTS)
    return m.net(x + m.table)


def a_table_in_a_dict(m: Any, x: Tensor) -> Tensor:
    if "table" not in m.tables:
        m.tables["table"] = m.points(POINTS)
    return m.net(x + m.tables["one"] * m.tables["table"])


def a_table_in_its_place(m: Any, x: Tensor) -> Tensor:
    if m.tables[0] is None:
        m.tables[0] = m.points(POINTS)
    return m.net(x + m.tables[0])


def a_table_further_inside(m: Any, x: Tensor) -> Tensor:
    if m.tables["of"][0].table is None:
        m.tables["of"][0].table = m.points(POINTS)
    return m.net(x + m.tables["of"][0].table)


def longer_than_ever(m: Any, x: Tensor) -> Tensor:
    """What only the call does that is the first of its length."""
    longest, m.tables["of"][0].table = m.tables["of"][0].table or 2, x.shape[1]
    f: Tensor = m.net(x + m.points(POINTS))
    return 3 * f if x.shape[1] > longest else f


def a_call_in_a_call(m: Any, x: Tensor) -> Tensor:
    if m.inside:
        return m.net(x + m.points(POINTS))
    m.inside = True
    m.last = m(x)
    m.inside = False
    return m.last.tanh()


def a_new_attribute(m: Any, x: Tensor) -> Tensor:
    if not hasattr(m, "table"):
        m.table = m.points(POINTS)
    return m.net(x + m.table)


def a_number_beside_a_buffer(m: Any, x: Tensor) -> Tensor:
    """As rotary embeddings do that grow with the longest text so far."""
    if x.shape[1] > m.longest:
        m.longest = x.shape[1]
        m.register_buffer("scale", torch.tensor(3.0))
    return m.net(x + m.points(POINTS)) * m.scale


def its_last_output(m: Any, x: Tensor) -> Tensor:
    m.last = m.net(x + m.points(POINTS))
    return m.last.tanh()


def states_of_all_calls(m: Any, x: Tensor) -> Tensor:
    m.states.append(m.net(x + m.points(POINTS)))
    return m.states[-1] * m.states[0]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "a table": lambda: Keeping(a_table, table=None),
    "a table in a dict": lambda: Keeping(a_table_in_a_dict, tables={"one": ONE}),
    "a table in its place": lambda: Keeping(a_table_in_its_place, tables=[None]),
    "a table in an object": lambda: Keeping(a_table_further_inside, tables={"of": [Cache()]}),
    "a table in a namespace": lambda: Keeping(
        a_table_further_inside, tables={"of": (SimpleNamespace(table=None),)}
    ),
    "a table in a dict of a class": lambda: Keeping(a_table_in_a_dict, tables=Tables(one=ONE)),
    "a call in a call": lambda: Keeping(a_call_in_a_call, inside=False, last=None),
    "a new attribute": lambda: Keeping(a_new_attribute),
    "a number beside a buffer": lambda: Keeping(a_number_beside_a_buffer, longest=2),
    "its last output": lambda: Keeping(its_last_output, last=None),
    "states of all calls": lambda: Keeping(states_of_all_calls, states=[ONE]),
}


def of(model: nn.Module, layers: tuple[str, ...] | None = None) -> ek.Problem:
    return ek.Problem(model, [(X, Y)], ek.Gaussian(), fisher=ek.Empirical(), layers=layers)


def check(model: nn.Module, layers: tuple[str, ...], own_of: Callable[..., nn.Module]) -> None:
    """Gradients of each sample are those of a loop over a model of its own; E is of these."""
    (G,) = ek.per_sample_gradients(of(model))
    truth = []
    for x, y in zip(X, Y, strict=True):
        own = own_of(model)
        names, parameters = zip(*own.named_parameters(), strict=True)
        loss = (own(x[None]) - y).square().sum() / 2
        truth.append(dict(zip(names, torch.autograd.grad(loss, parameters), strict=True)))
    E = ek.ekfac(of(model, layers))
    assert {*layers} == {*E} <= {*G}
    for layer in ek.find_parameters(model):
        expected = torch.stack([layer.to_matrix(one) for one in truth])
        torch.testing.assert_close(G[layer.name][:, 0], expected, rtol=1e-11, atol=1e-12)
        if layer.name in E:
            torch.testing.assert_close(E[layer.name].trace(), expected.square().sum() / len(X))


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")  # of points
@pytest.mark.parametrize("name", MODELS)
def test_every_call_begins_as_the_callers_next_one(name: str) -> None:
    model = MODELS[name]().double()
    before = {name: copy.copy(value) for name, value in vars(model).items()}
    check(model, ("net", "points"), copy.deepcopy)
    assert vars(model) == before


@pytest.mark.parametrize("name", MODELS)
def test_a_call_leaves_nothing_in_a_copy(name: str) -> None:
    model = MODELS[name]().double()
    keep_as_before(model)
    before = {name: copy.copy(value) for name, value in vars(model).items()}
    model(X)
    assert vars(model) == before


def called(model: nn.Module) -> nn.Module:
    model = model.double().eval()
    model(X)
    return model


CALLED: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "its last output": (MODELS["its last output"], ("net", "points")),
    "states of all calls": (MODELS["states of all calls"], ("net", "points")),
    "weight_norm": (lambda: nn.Sequential(weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2)), ("1",)),
    "spectral_norm": (
        lambda: nn.Sequential(spectral_norm(nn.Linear(3, 3)), nn.Linear(3, 2)),
        ("1",),
    ),
    "pruning": (
        lambda: nn.Sequential(
            prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5), nn.Linear(3, 2)
        ),
        ("1",),
    ),
}


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated")
@pytest.mark.parametrize("name", CALLED)
def test_what_a_call_left_behind_with_its_graph_is_in_nobodys_way(name: str) -> None:
    build, layers = CALLED[name]
    check(called(build()), layers, lambda model: model)


class Plus(nn.Module):
    """Of a weight, what adapters of single matrices make of it."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, W: Tensor) -> Tensor:
        return W + self.x


def reparametrized_for_one_call(m: Any, x: Tensor) -> Tensor:
    """As peft's ``target_parameters``; ``torch.func`` knows no requires_grad_(), in the midst."""
    register_parametrization(m.net, "weight", Plus(m.scale))
    m.net.parametrizations.weight.original.requires_grad_()
    f = m.net(x + m.points(POINTS))
    remove_parametrizations(m.net, "weight", leave_parametrized=False)
    return f


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.filterwarnings("ignore:model. torch.vmap cannot run all samples at once")
def test_a_forward_that_fails_before_it_has_put_its_parts_back() -> None:
    """Each call has the weight, and not what a failed one has left of it."""
    model = Keeping(reparametrized_for_one_call).double()
    check(model, ("points",), copy.deepcopy)
    assert type(model.net) is nn.Linear


def replaced_at_every_call(m: Any, x: Tensor) -> Tensor:
    m.net = nn.Sequential(m.net, nn.Tanh())
    return m.net(x + m.points(POINTS))


@pytest.mark.parametrize("ask", [ek.ekfac, ek.exact_fisher, ek.kfac])
@pytest.mark.parametrize("run", [replaced_at_every_call, longer_than_ever])
def test_a_forward_that_is_another_at_the_next_call_is_refused(run: Any, ask: Any) -> None:
    model = Keeping(run, tables={"of": [Cache()]}).double()
    with pytest.raises(ek.ProblemError, match="no state from call to call"):
        ask(of(model, ("points",)))


def halved_at_the_first_call(m: Any, x: Tensor) -> Tensor:
    """As RWKV has it in eval mode."""
    if not m.halved:
        m.halved = True
        with torch.no_grad():
            m.points.weight.div_(2)
    return m.net(x + m.points(POINTS))


def test_a_parameter_that_the_first_call_writes_is_written_once() -> None:
    def own_of(model: nn.Module) -> nn.Module:
        copied = copy.deepcopy(model)
        copied(X)
        return copied

    check(Keeping(halved_at_the_first_call, halved=False).double(), ("net",), own_of)


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
def test_a_layer_that_the_first_call_writes_has_factors_after_that() -> None:
    model = Keeping(halved_at_the_first_call, halved=False).double()
    with pytest.raises(ek.ProblemError, match="the forward writes into its weight"):
        ek.ekfac(of(model))
    check(called(model), ("net", "points"), copy.deepcopy)


@pytest.mark.parametrize("ask", [ek.ekfac, ek.exact_fisher, ek.kfac])
def test_what_a_forward_reads_of_another_calls_graph_is_refused(ask: Any) -> None:
    model = called(MODELS["a table"]())
    with pytest.raises(ek.ProblemError, match="forward reads a tensor, of shape"):
        ask(of(model))
    model.table = None  # as the message advises
    ask(of(model))


@pytest.mark.parametrize("ask", [ek.kfac, ek.ekfac])
def test_of_the_copy_nothing_is_left(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the model's size, and no allocation of tensors makes Python look for what is left."""
    copies = []
    made = Replica.__init__

    def noted(self: Replica, original: nn.Module, copy: nn.Module, layers: Any) -> None:
        made(self, original, copy, layers)
        copies.append(ref(copy))

    monkeypatch.setattr(Replica, "__init__", noted)
    model = nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3).requires_grad_(False), Keeping(a_table, table=None)
    )
    gc.disable()
    try:
        ask(of(model.double().eval(), ("0",)))
        assert copies
        assert not any(copy() for copy in copies)
    finally:
        gc.enable()
