"""Models that are written in unusual ways, against plain autograd on the caller's own model."""

from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.swa_utils import AveragedModel

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
Y = torch.randn(5, 2, generator=torch.Generator().manual_seed(2)).double()
SEQUENCES = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(3)).double()
Record = namedtuple("Record", ["x"])


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


class Around(nn.Module):
    """A network, and any function of the model and its inputs."""

    def __init__(self, run: Callable[..., Tensor], **attributes: Any) -> None:
        super().__init__()
        self.net, self.run = network(), run
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


class LowRank(nn.Module):
    """A frozen layer, and a trainable change of it that is zero at first."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(3, 4).requires_grad_(False)
        self.down, self.up = nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class Encoder(nn.Module):
    """torch's own layers, which have a kernel of their own where nothing is trained."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=padding)[:, 0])


class BatchedSquare(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * g


class OwnParameter(nn.Parameter):
    pass


class OwnTensor(torch.Tensor):
    pass


def closure() -> nn.Module:
    model = Around(lambda self, x: self.called(x))
    net = model.net
    model.called = lambda x: net(x)
    return model


def closure_of_closures() -> nn.Module:
    model = Around(lambda self, x: self.called(x, 3))

    def repeated(x: Tensor, times: int) -> Tensor:
        return model.net(x) if times == 0 else 2 * repeated(x, times - 1)

    model.called = repeated
    return model


def bound_method() -> nn.Module:
    model = Around(lambda self, x: self.called(x))
    model.called = model.net.forward
    return model


def hook_that_calls_the_model() -> nn.Module:
    model = network()
    model[2].register_forward_hook(lambda module, args, f: f + torch.tanh(model[2].forward(*args)))
    return model


def pre_hook() -> nn.Module:
    model = network()
    model[2].register_forward_pre_hook(lambda module, args: (2 * args[0],))
    return model


def own_parameter() -> nn.Module:
    model = network()
    model[0].weight = OwnParameter(model[0].weight.data)
    return model


def partly_without_gradients(self: Around, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = self.net[0](x)
    return self.net[2](torch.tanh(h))


def into_a_slice(self: Around, x: Tensor) -> Tensor:
    f = self.net(x)
    f[:, 0] = 2 * x[:, 0]
    return f.mul_(2)


def low_rank() -> nn.Module:
    return nn.Sequential(LowRank(), nn.Tanh(), nn.Linear(4, 2))


@torch.jit.script_if_tracing
def doubled(x: Tensor) -> Tensor:
    return 2.0 * x


def padded() -> Tensor:
    padding = torch.zeros(5, 3, dtype=torch.bool)
    padding[1:, 2] = True
    return padding


LINEARS = ("encoder.layers.0.linear1", "encoder.layers.1.linear2", "head")
Build = Callable[[], nn.Module]
# name: a model, its inputs, its layers
MODELS: dict[str, tuple[Build, Any, tuple[str, ...] | None]] = {
    "a closure": (closure, X, None),
    "a closure in closures": (closure_of_closures, X, None),
    "a bound method": (bound_method, X, None),
    "a hook that calls the model": (hook_that_calls_the_model, X, None),
    "a hook before the layer": (pre_hook, X, None),
    "a class of parameters": (own_parameter, X, None),
    "a class of tensors": (network, X.as_subclass(OwnTensor), None),
    "inputs in order": (network, OrderedDict(input=X), None),
    "inputs with names": (network, Record(X), None),
    "an average of models": (lambda: AveragedModel(network()), X, None),
    "a graph": (lambda: torch.fx.symbolic_trace(network()), X, None),
    "low rank": (low_rank, X, None),
    "partly without gradients": (lambda: Around(partly_without_gradients), X, None),
    "all without gradients": (
        lambda: Around(torch.no_grad()(lambda self, x: self.net(x))),
        X,
        None,
    ),
    "into a slice": (lambda: Around(into_a_slice), X, None),
    "complex inside": (lambda: Around(lambda self, x: torch.fft.fft(self.net(x)).real), X, None),
    "functional_call": (
        lambda: Around(
            lambda self, x: functional_call(self.net, dict(self.net.named_parameters()), (x,))
        ),
        X,
        None,
    ),
    "an autograd.Function": (
        lambda: Around(lambda self, x: BatchedSquare.apply(self.net(x))),
        X,
        None,
    ),
    "vmap of what is no layer": (
        lambda: Around(lambda self, x: vmap(torch.sin)(self.net(x))),
        X,
        None,
    ),
    "the shape in control flow": (
        lambda: Around(lambda self, x: self.net(x) * x.shape[1] if x.shape[0] else x),
        X,
        None,
    ),
    "scripted functions": (lambda: Around(lambda self, x: doubled(self.net(x))), X, None),
    "autocast switched off": (
        lambda: Around(torch.autocast("cpu", enabled=False)(lambda self, x: self.net(x))),
        X,
        None,
    ),
    "torch's Transformer": (Encoder, SEQUENCES, LINEARS),
    "with padding": (Encoder, (SEQUENCES, padded()), LINEARS),
    "norm first": (lambda: Encoder(norm_first=True), SEQUENCES, LINEARS),
}


def fisher_by_autograd(question: ek.Problem, names: list[str]) -> dict[str, Tensor]:
    """F = (1/N) sum_nk vec(G_nk) vec(G_nk)^T from one backward pass for each sample and output."""
    ((inputs, y),) = question.batches
    modules = dict(question.model.named_modules())
    F_of: dict[str, Any] = dict.fromkeys(names, 0)
    for n in range(len(y)):
        one = torch.utils._pytree.tree_map(lambda x, n=n: x[n : n + 1].clone(), inputs)
        many = {} if isinstance(one, dict) else {"*": one if isinstance(one, tuple) else (one,)}
        f = question.model(*many["*"]) if many else question.model(**one)
        for f_k in f.flatten():
            for name in names:
                own = [p for p in modules[name].parameters(recurse=False) if p.requires_grad]
                G = gradient(f_k, own)
                F_of[name] = F_of[name] + torch.outer(G, G) / len(y)
    return F_of


def gradient(f: Tensor, own: list[Tensor]) -> Tensor:
    """vec of the gradient of f with respect to [W | b]."""
    found: Any = [None] * len(own)
    if f.requires_grad:
        found = torch.autograd.grad(f, own, retain_graph=True, allow_unused=True)
    filled = [torch.zeros_like(p) if g is None else g for g, p in zip(found, own, strict=True)]
    return torch.cat([filled[0], *(g[:, None] for g in filled[1:])], 1).flatten()


@pytest.mark.filterwarnings("ignore:There is a performance drop because")
@pytest.mark.parametrize("name", MODELS)
def test_it_has_the_numbers_of_plain_autograd(name: str) -> None:
    build, inputs, layers = MODELS[name]
    question = ek.Problem(build().double().eval(), [(inputs, Y)], ek.Gaussian(), layers=layers)
    before = snapshot(question.model, question.batches)
    exact, approximate = ek.exact_fisher(question), ek.ekfac(question)
    assert list(ek.kfac(question)) == list(exact) == list(layers or exact)
    assert snapshot(question.model, question.batches) == before
    for layer, F_l in fisher_by_autograd(question, list(exact)).items():
        torch.testing.assert_close(exact[layer].dense(), F_l)
        torch.testing.assert_close(approximate[layer].trace(), F_l.trace())


def test_data_made_in_inference_mode() -> None:
    with torch.inference_mode():
        x, y = X.clone(), Y.clone()
    question = ek.Problem(network().double(), [(x, y)], ek.Gaussian())
    twin = ek.Problem(question.model, [(X, Y)], ek.Gaussian())
    torch.testing.assert_close(ek.ekfac(question)["0"].dense(), ek.ekfac(twin)["0"].dense())


class Unstable(nn.Module):
    """A chaotic map: rounding grows by a factor of 50 in every one of its steps.

    torch's own recurrent network and its decomposition, for ``vmap``, round differently.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(3, 32, batch_first=True)
        self.linear = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(self.recurrent(x)[1][-1])
        for _ in range(4):
            h = torch.sin(50 * h)
        return h


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_rounding_that_a_network_amplifies_is_no_mixing_of_samples(dtype: torch.dtype) -> None:
    """Together and apart the outputs differ altogether, but do not in float64."""
    model = Unstable().to(dtype)
    y = torch.zeros(5, 2, dtype=dtype)
    batches = [(x.to(dtype), y) for x in torch.randn(10, 12, 3).split(5)]
    ek.kfac(ek.Problem(model, batches, ek.Gaussian(), layers=("linear",)))
