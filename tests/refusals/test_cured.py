"""Refused, and then cured: what the message says is done, and every entry runs.

Where the advice is to leave layers out, the names in the message are taken as they stand there.
"""

import ast
import re
from collections import OrderedDict, UserDict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap
from torch.nn.utils.rnn import pack_sequence

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC
from tests.support.refusals import ENTRIES, FACTORED, Arguments, regression

ALL = {
    **ENTRIES,
    "EKFAC": lambda problem: updated(EKFAC, problem),
    "KFAC": lambda problem: updated(KFAC, problem),
}
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
Y = torch.randn(5, 2, generator=torch.Generator().manual_seed(2))
WORDS = torch.tensor([[0, 5], [1, 1], [2, 3], [4, 0], [5, 5]])


def updated(kind: Callable[..., Any], problem: ek.Problem) -> None:
    options = {"lr": 0.1, "damping": 0.1}
    options |= {name: getattr(problem, name) for name in ("layers", "mask", "output")}
    optimizer = kind(problem.model, problem.likelihood, **options)
    for inputs, targets in problem.batches:
        optimizer.update(inputs, targets)


class Around(nn.Module):
    """A network, and any function of it and of the inputs."""

    def __init__(self, run: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.run = run
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Any) -> Any:
        return self.run(self.net, *inputs)


def around(run: Callable[..., Any]) -> Arguments:
    return regression(Around(run), X, Y)


def data(inputs: Any, targets: Any = Y, model: nn.Module | None = None) -> Arguments:
    model = Around(lambda net, x: net(x)) if model is None else model
    return regression(model, X, Y) | {"batches": [(inputs, targets)]}


def by_autograd(net: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(net(x).sum(), x, create_graph=True)[0][:, :2]


def forward_mode(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(net(dual)).tangent


def words(**options: Any) -> Arguments:
    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(6, 2)

        def forward(self, ids: Tensor) -> Tensor:
            return F.embedding(ids, self.table.weight, **options).sum(1)

    return regression(Lookup(), WORDS, Y)


def plain() -> Arguments:
    return around(lambda net, x: net(x))


def on_the_mode(mode: Callable[[], Any]) -> Arguments:
    def run(net: nn.Module, x: Tensor) -> Tensor:
        with mode():
            return net(x)

    return around(run)


def filled(net: nn.Module, x: Tensor) -> Tensor:
    f = net(x)
    f[:, 0] *= f[:, 1]
    return f


def one_at_a_time(net: nn.Module, x: Tensor) -> Tensor:
    if len(x) > 1:
        raise RuntimeError("one at a time")
    return net(x)


def as_namespace(**values: Any) -> Any:
    return type("Batch", (), values)()


nested = torch.nested.nested_tensor
Case = tuple[Callable[[], Arguments], str, str, Callable[[], Arguments]]
# name: bad, what is wrong, what to do, that done
CASES: dict[str, Case] = {
    "inference mode": (
        lambda: on_the_mode(torch.inference_mode),
        "under torch.inference_mode",
        "take that out of the forward",
        lambda: on_the_mode(nullcontext),
    ),
    "overwriting": (
        lambda: around(filled),
        "overwrites a tensor that the gradient needs",
        "return a new tensor",
        lambda: around(lambda net, x: net(x) * net(x).flip(1)),
    ),
    "one sample at a time": (
        lambda: around(one_at_a_time),
        "its forward fails on several samples",
        "pass batches of one sample",
        lambda: around(one_at_a_time) | {"batches": [*zip(X[:, None], Y[:, None], strict=True)]},
    ),
    "a root of zero": (
        lambda: around(lambda net, x: torch.where(x[:, :1] > 9, (0 * net(x)).sqrt(), net(x))),
        "NaN or infinity in its inputs or gradients",
        "differentiates both branches",
        lambda: around(lambda net, x: torch.where(x[:, :1] > 9, (0 * net(x) + 1).sqrt(), net(x))),
    ),
    "DataParallel": (
        lambda: data(X, model=nn.DataParallel(nn.Linear(3, 2), device_ids=[])),
        "DataParallel",
        "model.module",
        lambda: data(X, model=nn.DataParallel(nn.Linear(3, 2), device_ids=[]).module),
    ),
    "max_norm of the op": (lambda: words(max_norm=1.0), "F.embedding", "max_norm off", words),
    "sparse of the op": (lambda: words(sparse=True), "F.embedding", "sparse off", words),
    "scale_grad_by_freq of the op": (
        lambda: words(scale_grad_by_freq=True),
        "F.embedding",
        "scale_grad_by_freq off",
        words,
    ),
    "a lock": (
        lambda: data(X, model=with_a_lock()),
        "cannot be copied",
        "a lock or a file",
        plain,
    ),
    "texts": (
        lambda: data({"x": X, "names": ["a"] * 5}),
        "is a str",
        "leave lists of names and texts out",
        lambda: data({"x": X}, model=WithMask()),
    ),
    "texts in a tuple, as a DataLoader has them": (
        lambda: data([X, ("a", "b", "c", "d", "e")]),
        "is a str",
        "leave lists of names and texts out",
        lambda: data([X]),
    ),
    "a tokenizer's lists": (
        lambda: data(UserDict(x=X.tolist()), model=WithMask()),
        "is a float",
        "return_tensors='pt'",
        lambda: data(UserDict(x=X), model=WithMask()),
    ),
    "numbers, one for each sample": (
        lambda: data((X, (1.0, 0.0, 1.0, 1.0, 0.0)), model=WithMask()),
        "is a float",
        "torch.as_tensor",
        lambda: data((X, torch.as_tensor((1.0, 0.0, 1.0, 1.0, 0.0))[:, None]), model=WithMask()),
    ),
    "a mask for another kind of inputs": (
        lambda: data(UserDict(x=X), model=WithMask()) | {"mask": lambda inputs: inputs.x[:, 0] > 9},
        "mask: it failed on the inputs of a batch, a dict",
        "inputs['attention_mask']",
        lambda: data(UserDict(x=X), model=WithMask()) | {"mask": lambda inputs: None},
    ),
    "a tuple of outputs": (
        lambda: around(lambda net, x: (net(x), x)),
        "it returned a tuple, of Tensor, Tensor",
        "Problem(output=lambda o: o[0])",
        lambda: around(lambda net, x: (net(x), x)) | {"output": lambda o: o[0]},
    ),
    "several outputs by name": (
        lambda: around(lambda net, x: OrderedDict(pooled=net(x), hidden=x, past=None)),
        "it returned a OrderedDict, with pooled, hidden, past in it",
        "Problem(output=lambda o: o['pooled'])",
        lambda: (
            around(lambda net, x: OrderedDict(pooled=net(x), hidden=x, past=None))
            | {"output": lambda o: o["pooled"]}
        ),
    ),
    "no outputs": (
        lambda: around(lambda net, x: None),
        "it returned a NoneType",
        "say which one tensor in it has the outputs",
        plain,
    ),
    "an output that is not there": (
        lambda: plain() | {"output": lambda o: o.logits},
        "output: it failed on what the model returned, a Tensor, of shape [1, 2] (AttributeError",
        "leave it out where the model returns one tensor",
        plain,
    ),
    "an output that is none": (
        lambda: plain() | {"output": lambda o: [o]},
        "output: it made a list of what the model returned",
        "let it return one tensor",
        lambda: plain() | {"output": lambda o: [o][0]},
    ),
    "an output by name": (
        lambda: plain() | {"output": "logits"},
        "output: a str picks no tensor",
        "lambda o: o.logits",
        plain,
    ),
    "an object": (
        lambda: data(as_namespace(x=X)),
        "is a Batch",
        "take the tensors out of it",
        lambda: data(as_namespace(x=X).x),
    ),
    "a list of numbers": (
        lambda: data(X[0].tolist()),
        "there is no tensor among them",
        "torch.as_tensor",
        lambda: data(torch.as_tensor(X.tolist())),
    ),
    "numpy inputs": (
        lambda: data(X.numpy()),
        "is a ndarray",
        "torch.as_tensor",
        lambda: data(torch.as_tensor(X.numpy())),
    ),
    "nested": (
        lambda: data(nested(list(X))),
        "nested tensor",
        "to_padded_tensor",
        lambda: data(torch.nested.to_padded_tensor(nested(list(X)), 0.0)),
    ),
    "sparse": (lambda: data(X.to_sparse()), "sparse_coo", "to_dense()", lambda: data(X)),
    "sparse rows": (lambda: data(X.to_sparse_csr()), "sparse_csr", "to_dense()", lambda: data(X)),
    "a packed sequence": (
        lambda: data(pack_sequence(list(X[:, None]))),
        "is a PackedSequence",
        "pad_packed_sequence",
        lambda: data(X),
    ),
    "no targets": (lambda: data(X, None), "one of the targets", "as one dense", lambda: data(X)),
    "targets in a dict": (
        lambda: data(X, {"y": Y}),
        "one of the targets",
        "as one dense tensor",
        lambda: data(X),
    ),
    "sparse weight": (
        lambda: data(X, model=in_layout(sparse=True)),
        "its layout is torch.sparse_coo",
        "to_dense()",
        lambda: data(X, model=in_layout(sparse=False)),
    ),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("asked", ALL)
def test_what_is_refused_runs_when_the_advice_is_followed(name: str, asked: str) -> None:
    bad, culprit, advice, cured = CASES[name]
    entry = ALL[asked]
    if asked not in ENTRIES:  # an optimizer, which has these arguments itself
        advice = advice.replace("Problem(", f"{asked}(")
    with pytest.raises(ek.ProblemError) as caught:
        entry(ek.Problem(**bad()))
    assert culprit in str(caught.value)
    assert advice in str(caught.value)
    entry(ek.Problem(**cured()))


TRANSFORMED: dict[str, Callable[..., Tensor]] = {
    "grad": lambda net, x: grad(lambda z: net(z).sum())(x)[:, :2],
    "jvp": lambda net, x: jvp(net, (x,), (torch.ones_like(x),))[1],
    "vjp": lambda net, x: vjp(net, x)[1](torch.ones_like(x[:, :2]))[0][:, :2],
    "jacrev": lambda net, x: vmap(jacrev(net))(x).sum(-1),
    "vmap": lambda net, x: vmap(net)(x),
}


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("entry", [ek.kfac, ek.ekfac, ALL["EKFAC"], ALL["KFAC"]])
def test_layers_inside_of_a_transform_have_no_taps(
    name: str, entry: Callable[[ek.Problem], Any]
) -> None:
    with pytest.raises(ek.ProblemError, match=r"layer 'net.0': .* inside of torch.func.grad"):
        entry(ek.Problem(**around(TRANSFORMED[name])))
    entry(ek.Problem(**plain()))


@pytest.mark.parametrize("run", [by_autograd, forward_mode])
@pytest.mark.parametrize("entry", [ek.kfac, ek.ekfac, ALL["EKFAC"], ALL["KFAC"]])
def test_layers_that_the_forward_differentiates_have_no_taps(
    run: Callable[..., Tensor], entry: Callable[[ek.Problem], Any]
) -> None:
    with pytest.raises(ek.ProblemError, match=r"layer 'net.0': .*, or pass the network"):
        entry(ek.Problem(**around(run)))
    entry(ek.Problem(**plain()))


@pytest.mark.parametrize("name", TRANSFORMED)
def test_layers_inside_of_a_transform_have_gradients(name: str) -> None:
    """One sample and one output at a time, by plain autograd on the caller's own model."""
    question = ek.Problem(**around(TRANSFORMED[name]))
    (G, *_) = ek.per_sample_gradients(question)
    x = question.batches[0][0]
    for n, f in enumerate(question.model(x)):
        for k in range(2):
            (expected,) = torch.autograd.grad(f[k], question.model.net[0].weight, retain_graph=True)
            torch.testing.assert_close(G["net.0"][n, k, :, :3], expected)


@pytest.mark.parametrize("entry", ALL.values(), ids=ALL)
def test_autocast_around_the_call(entry: Callable[[ek.Problem], Any]) -> None:
    question = ek.Problem(**plain())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(ek.ProblemError, match="autocast: it is on"):
            entry(question)
        with torch.autocast("cpu", enabled=False):
            entry(question)


ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


class Everything(nn.Module):
    """All reasons to leave a layer out: idle, or used otherwise; and rows that attention adds."""

    def __init__(self, covered: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True, batch_first=True)
        self.first_idle, self.second_idle = nn.Linear(2, 2), nn.Linear(2, 2)
        self.product, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.table = nn.Embedding(3, 4)
        if covered:
            self.attention.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.attention(x, x, x, need_weights=False)[0] @ self.product.weight
        return self.head(h + self.table.weight[0]).mean(1)


class Tied(nn.Module):
    """A bias of one layer in another, an idle layer, and a trainable parameter of no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(2, 2)
        self.two.bias = self.one.bias
        self.head, self.gain = nn.Linear(4, 2), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.head(self.two(self.one(x))).mean(1)


class Derived(nn.Module):
    """A trainable parameter of no layer, and a network that is differentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.potential, self.head = nn.Linear(4, 1), nn.Linear(4, 2)
        self.gain = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        force = grad(lambda z: torch.tanh(self.potential(z)).sum())(x)
        return self.gain * self.head(force).mean(1)


def scripted_part() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0] = torch.jit.script(model[0])
    return nn.Sequential(model, Mean())


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def with_low_rank() -> nn.Module:
    class LowRank(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.A, self.B = nn.Parameter(torch.randn(1, 4)), nn.Parameter(torch.randn(4, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight + self.B @ self.A, self.bias)

    return nn.Sequential(LowRank(), nn.Linear(4, 2), Mean())


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "with attention": (
        lambda: Everything(False),
        (*(f"attention.{part}" for part in ATTENTION), "head"),
    ),
    "without": (lambda: Everything(True), ("head",)),
    "a derivative": (Derived, ("head",)),
    "tied": (Tied, ("head",)),
    "transformer layer": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 4, 0.0, batch_first=True), nn.Linear(4, 2), Mean()
        ),
        (*(f"0.self_attn.{part}" for part in ATTENTION), "0.linear1", "0.linear2", "1"),
    ),
    "scripted part": (scripted_part, ("0.1",)),
    "low rank": (with_low_rank, ("1",)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported")
@pytest.mark.filterwarnings("ignore:There is a performance drop because")
@pytest.mark.parametrize("name", MODELS)
def test_the_layers_that_are_advised_run_at_once(name: str) -> None:
    """One round: what the message lists is complete and is not refused."""
    build, names = MODELS[name]
    arguments = regression(build(), torch.randn(5, 3, 4), Y)
    for entry in FACTORED.values():
        with pytest.raises(ek.ProblemError) as caught:
            entry(ek.Problem(**arguments))
        listed = re.findall(r"Problem\(layers=(\(.*?\))\)", str(caught.value))
        assert ast.literal_eval(listed[-1]) == names
    for entry in ENTRIES.values():
        entry(ek.Problem(**arguments, layers=names))


@pytest.mark.filterwarnings("ignore:There is a performance drop because")
@pytest.mark.parametrize("kind", [EKFAC, KFAC])
def test_the_layers_that_an_optimizer_advises_run(kind: Callable[..., Any]) -> None:
    model = MODELS["transformer layer"][0]().eval()
    with pytest.raises(ek.ProblemError) as caught:
        kind(model, ek.Gaussian(), lr=0.1, damping=0.1)
    listed = ast.literal_eval(re.findall(r"layers=(\(.*?\))\)", str(caught.value))[-1])
    assert listed == MODELS["transformer layer"][1]
    optimizer = kind(model, ek.Gaussian(), lr=0.1, damping=0.1, layers=listed)
    optimizer.update(torch.randn(5, 3, 4), Y)


@pytest.mark.parametrize(
    "build",
    [
        lambda: torch.export.export(nn.Sequential(nn.Linear(3, 2)), (X,)).module(),
        lambda: nn.EmbeddingBag(6, 2, mode="max"),
    ],
    ids=["exported", "largest of a bag"],
)
def test_a_model_without_any_layer_is_not_advised_to_name_some(
    build: Callable[[], nn.Module],
) -> None:
    model = build()
    for entry in FACTORED.values():
        with pytest.raises(ek.ProblemError, match="of which there is none here: build the model"):
            entry(ek.Problem(model, [(X, Y)], ek.Gaussian()))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_script_is_refused(entry: Callable[[ek.Problem], Any]) -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    for script in (torch.jit.script(net), torch.jit.trace(net, X)):
        with pytest.raises(ek.ProblemError, match=r"as it was before torch\.jit\.script"):
            entry(ek.Problem(script, [(X, Y)], ek.Gaussian()))
    entry(ek.Problem(net, [(X, Y)], ek.Gaussian()))


def test_functional_call_with_other_weights_is_refused() -> None:
    arguments = around(lambda net, x: functional_call(net, detached(net), (x,)))
    for entry in FACTORED.values():
        with pytest.raises(ek.ProblemError, match=r"layer 'net.0': its weight was never used"):
            entry(ek.Problem(**arguments))


def detached(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in net.named_parameters()}


class WithMask(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return super().forward(x if mask is None else x * mask)


def with_a_lock() -> nn.Module:
    import threading

    model = nn.Sequential(nn.Linear(3, 2))
    model.lock = threading.Lock()
    return model


def in_layout(sparse: bool) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2))
    if sparse:
        model[0].weight = nn.Parameter(model[0].weight.detach().to_sparse())
    return model
