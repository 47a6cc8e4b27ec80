"""torch's attention and its Transformers, against networks out of Linear layers, by hand."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.matrix.ekfac import squares_from_gradients
from ekfac_ref.optim import EKFAC, KFAC
from tests.support.attention_by_hand import by_hand, packed_again
from tests.support.one_by_one import check, close

N, T, S, D = 5, 3, 4, 4
PADDING = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1]]).bool()
CAUSAL = torch.ones(T, T).triu(1).bool()
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")


@pytest.fixture(autouse=True)
def no_kernel_of_a_whole_layer() -> Iterator[None]:
    """Which asks for attributes that an attention by hand has not."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


class Attending(nn.Module):
    """Attention of tokens to themselves, or to others."""

    def __init__(
        self, batch_first: bool = True, need_weights: bool = False, **options: Any
    ) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 2, batch_first=batch_first, **options)
        self.head, self.first, self.need_weights = nn.Linear(D, 2), batch_first, need_weights
        for parameter in self.attention.parameters():
            nn.init.normal_(parameter)  # no bias is zero

    def forward(
        self,
        x: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        padding: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        key = x if key is None else key
        given = (x, key, key if value is None else value)
        query, key, value = given if self.first else (each.transpose(0, 1) for each in given)
        masks = {"key_padding_mask": padding, "attn_mask": None if mask is None else mask[0]}
        y, _ = self.attention(query, key, value, need_weights=self.need_weights, **masks)
        return torch.tanh(self.head(y if self.first else y.transpose(0, 1))).sum(1)


class Encoding(nn.Module):
    """A stack of torch's layers."""

    def __init__(self, nested: bool = False, **options: Any) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(D, 2, 5, 0.0, batch_first=True, **options)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.head = nn.Linear(D, 2)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=padding)[:, 0])


class Translating(nn.Module):
    """Encoder and decoder, which attends to itself and to the encoder's outputs."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 5}
        self.net = nn.Transformer(D, 2, **sizes, dropout=0.0, batch_first=True, **options)
        self.head = nn.Linear(D, 2)

    def forward(self, x: Tensor, key: Tensor) -> Tensor:
        return self.head(self.net(key, x, tgt_mask=CAUSAL.clone())).tanh().mean(1)


def numbers(*shape: int) -> Tensor:
    return torch.randn(N, *shape).double()


def of_itself(**more: Tensor) -> dict[str, Tensor]:
    return {"x": numbers(T, D)} | more


def of_others(d_key: int = D, d_value: int = D) -> dict[str, Tensor]:
    return {"x": numbers(T, D), "key": numbers(S, d_key), "value": numbers(S, d_value)}


MASKED = {"padding": PADDING, "mask": CAUSAL.expand(N, T, T)}
WIDE = {"kdim": 3, "vdim": 2}
MODELS: dict[str, Callable[[], tuple[nn.Module, dict[str, Tensor]]]] = {
    "self-attention": lambda: (Attending(), of_itself()),
    "weights asked for": lambda: (Attending(need_weights=True), of_itself()),
    "sequences first": lambda: (Attending(batch_first=False), of_itself()),
    "no bias": lambda: (Attending(bias=False), of_itself()),
    "masks": lambda: (Attending(), of_itself(**MASKED)),
    "masks and weights, sequences first": lambda: (
        Attending(batch_first=False, need_weights=True),
        of_itself(**MASKED),
    ),
    "one memory": lambda: (Attending(), {"x": numbers(T, D), "key": numbers(S, D)}),
    "cross-attention": lambda: (Attending(), of_others()),
    "cross-attention, sequences first": lambda: (Attending(batch_first=False), of_others()),
    "separate weights": lambda: (Attending(**WIDE), of_others(3, 2)),
    "separate weights, no bias": lambda: (Attending(bias=False, **WIDE), of_others(3, 2)),
    "encoder": lambda: (Encoding(), of_itself(padding=PADDING)),
    "encoder, norm first": lambda: (Encoding(norm_first=True, activation="gelu"), of_itself()),
    "nested tensors": lambda: (Encoding(nested=True), of_itself(padding=PADDING)),
    "decoder": lambda: (Translating(), {"x": numbers(T, D), "key": numbers(S, D)}),
    "decoder, norm first, no bias": lambda: (
        Translating(norm_first=True, bias=False),
        {"x": numbers(T, D), "key": numbers(S, D)},
    ),
}


def layers_of(model: nn.Module) -> tuple[str, ...]:
    """What the network by hand has, and all of it."""
    return tuple(n for n, m in by_hand(model).named_modules() if isinstance(m, nn.Linear))


def problems(name: str, **choices: Any) -> tuple[ek.Problem, ek.Problem]:
    """Of the model, and of the one by hand, in two batches."""
    model, inputs = MODELS[name]()
    model = model.double().eval()
    y = torch.randn(N, 2).double()
    cuts = (slice(0, 3), slice(3, N))
    batches = [({k: x[cut] for k, x in inputs.items()}, y[cut]) for cut in cuts]
    choices = {"layers": layers_of(model), "likelihood": ek.Gaussian()} | choices
    return (
        ek.Problem(model, batches, **choices),
        ek.Problem(by_hand(model), batches, **choices),
    )


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True, but")
@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_factors_are_those_of_linear_layers(name: str) -> None:
    """By a loop with plain autograd on the network by hand: G, A and B, Lambda."""
    question, plain = problems(name)
    assert {n.rpartition(".")[2] for n in question.layers or ()} >= {*PROJECTIONS}
    check(question, plain, rtol=1e-12)


FISHERS = {"exact": ek.Exact(), "empirical": ek.Empirical(), "sampled": ek.Sampled(draws=2)}
SHARINGS = {"expand": ek.Expand(), "reduce": ek.Reduce()}


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("fisher", FISHERS)
@pytest.mark.parametrize("name", ["masks", "separate weights", "encoder", "decoder"])
def test_every_fisher_and_sharing(name: str, fisher: str, sharing: str) -> None:
    question, plain = problems(name, fisher=FISHERS[fisher], sharing=SHARINGS[sharing])
    G = [*ek.per_sample_gradients(plain)]
    K, E, F = ek.kfac(question), ek.ekfac(question), ek.exact_fisher(question)
    by_hands, exact = ek.kfac(plain), ek.exact_fisher(plain)
    for layer in question.layers or ():
        close(K[layer].A, by_hands[layer].A, 1e-12)
        if sharing == "reduce" and layer.endswith("k_proj"):
            assert K[layer].B.abs().amax() < 1e-24  # what all keys have in common moves nothing
        else:
            close(K[layer].B, by_hands[layer].B, 1e-12)
        close(F[layer].dense(), exact[layer].dense(), 1e-12)
        squares = sum(squares_from_gradients(g[layer], E[layer].Q_B, E[layer].Q_A) for g in G)
        close(E[layer].eigenvalues, squares / N, 1e-12)


def test_padding_that_does_not_count() -> None:
    """Of self-attention, at whose padded positions neither queries nor keys move the outputs."""

    class Silent(Attending):
        def forward(self, x: Tensor, padding: Tensor) -> Tensor:  # type: ignore[override]
            y, _ = self.attention(x, x, x, key_padding_mask=padding)
            return (self.head(y).tanh() * ~padding[..., None]).sum(1)

    model, y = Silent().double(), torch.randn(N, 2).double()
    inputs = of_itself(padding=PADDING)
    choices = {"mask": lambda inputs: ~inputs["padding"], "layers": layers_of(model)}
    K, by_hands = (
        ek.kfac(ek.Problem(m, [(inputs, y)], ek.Gaussian(), **choices))
        for m in (model, by_hand(model))
    )
    counted = inputs["x"][~PADDING]
    a = torch.cat([counted, torch.ones(len(counted), 1).double()], 1)
    for layer in choices["layers"]:
        close(K[layer].A, by_hands[layer].A, 1e-12)
        close(K[layer].B, by_hands[layer].B, 1e-12)
    for layer in ("q_proj", "k_proj", "v_proj"):
        close(K[f"attention.{layer}"].A, a.T @ a / len(a), 1e-12)


def test_one_sample_and_every_sample_alone() -> None:
    """No layout of samples is needed, nor found, for one."""
    question, plain = problems("cross-attention")
    one = [({k: x[:1] for k, x in inputs.items()}, y[:1]) for inputs, y in question.batches]
    K, by_hands = (
        ek.kfac(ek.Problem(p.model, one, ek.Gaussian(), layers=p.layers)) for p in (question, plain)
    )
    for layer in question.layers or ():
        close(K[layer].B, by_hands[layer].B, 1e-12)


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
def test_sequences_without_an_axis_of_samples() -> None:
    """One call for each of them."""

    class Apart(Attending):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return torch.stack([self.head(self.attention(one, one, one)[0]).sum(0) for one in x])

    x, y = numbers(T, D), torch.randn(N, 2).double()
    model = Apart().double()
    together = Attending().double()
    together.load_state_dict(model.state_dict())
    together.forward = lambda x: together.head(together.attention(x, x, x)[0]).sum(1)
    one, other = (ek.kfac(ek.Problem(m, [(x, y)], ek.Gaussian())) for m in (model, together))
    for layer in other:
        close(one[layer].A, other[layer].A, 1e-12)
        close(one[layer].B, other[layer].B, 1e-12)


def test_what_the_layers_are() -> None:
    layers = {layer.name: layer for layer in ek.find_layers(Attending())}
    assert [*layers] == [*(f"attention.{part}" for part in PROJECTIONS), "head"]
    assert all(layer.shape == (D, D + 1) and layer.groups == 1 for layer in [*layers.values()][:4])
    packed = ("attention.in_proj_weight", "attention.in_proj_bias")
    assert [layers[f"attention.{part}"].parameters for part in PROJECTIONS[:3]] == [packed] * 3
    layers = {layer.name: layer for layer in ek.find_layers(Attending(**WIDE, bias=False))}
    assert [layer.shape[1] for layer in layers.values()] == [D, 3, 2, D, D + 1]
    assert layers["attention.k_proj"].parameters == ("attention.k_proj_weight",)
    assert [x.name for x in ek.find_layers(nn.MultiheadAttention(D, 2))] == [*PROJECTIONS]


@pytest.mark.parametrize("options", [{}, {"bias": False}, WIDE], ids=str)
def test_matrices_of_all_its_layers_and_back(options: dict[str, Any]) -> None:
    model = Attending(**options)
    values = {name: p.detach() for name, p in model.named_parameters()}
    back: dict[str, Tensor] = {}
    alone = {name: torch.zeros_like(p) for name, p in values.items()}
    for layer in ek.find_layers(model):
        matrix = layer.to_matrix(values)
        assert matrix.shape == layer.shape
        back |= layer.from_matrix(matrix, back)
        for name, part in layer.from_matrix(matrix).items():
            alone[name] += part  # zeros in the rows of other layers
            torch.testing.assert_close(layer.to_matrix(layer.from_matrix(matrix)), matrix)
    for name, p in values.items():
        assert torch.equal(back[name], p)
        assert torch.equal(alone[name], p)


@pytest.mark.parametrize("part", PROJECTIONS)
@pytest.mark.parametrize("name", ["self-attention", "separate weights"])
def test_one_layer_alone(name: str, part: str) -> None:
    """The others are not asked about, or frozen as far as they are Parameters of their own."""
    question, plain = problems(name)
    chosen = (f"attention.{part}",)
    expected = ek.kfac(plain)[chosen[0]]
    for frozen in (False, True):
        if frozen:
            for parameter, p in question.model.named_parameters():
                p.requires_grad_(parameter.startswith((chosen[0], "attention.in_proj")))
        ((layer, K),) = ek.kfac(replace(question, layers=chosen)).items()
        assert layer == chosen[0]
        close(K.A, expected.A, 1e-12)
        close(K.B, expected.B, 1e-12)


class Shared(nn.Module):
    """One attention called twice, and another with the same packed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = (nn.MultiheadAttention(D, 2, batch_first=True) for _ in range(2))
        self.two.in_proj_weight, self.two.in_proj_bias = (
            self.one.in_proj_weight,
            self.one.in_proj_bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.one(x, x, x)[0]
        y = y + self.one(y.tanh(), x, y)[0]
        return (y + self.two(y, y, y)[0]).sum(1)


def test_shared_weights_are_one_layer_each() -> None:
    model = Shared().double()
    plain = by_hand(model)
    for part in PROJECTIONS[:3]:
        setattr(plain.two, part, getattr(plain.one, part))
    x, y = numbers(T, D), torch.randn(N, D).double()
    question, other = (ek.Problem(m, [(x, y)], ek.Gaussian()) for m in (model, plain))
    K, by_hands, F, exact = (
        ek.kfac(question),
        ek.kfac(other),
        *map(ek.exact_fisher, (question, other)),
    )
    assert [*K] == [*(f"one.{part}" for part in PROJECTIONS), "two.out_proj"]
    for layer in K:
        close(K[layer].A, by_hands[layer].A, 1e-12)
        close(K[layer].B, by_hands[layer].B, 1e-12)
        close(F[layer].dense(), exact[layer].dense(), 1e-12)


@pytest.mark.parametrize("kind", [EKFAC, KFAC])
@pytest.mark.parametrize("name", ["masks", "separate weights", "encoder", "decoder"])
def test_steps_of_an_optimizer(name: str, kind: type[EKFAC] | type[KFAC]) -> None:
    """With momentum and a trust region, and all that is in no layer (norms) moved alike."""
    question, plain = problems(name)
    settings = {"lr": 0.1, "damping": 0.1, "momentum": 0.9, "kl_clip": 1e-2}
    settings |= {"recompute_every": 1}  # any basis of a null space will do, until B grows into it
    for asked in (question, plain):
        optimizer = kind(asked.model, ek.Gaussian(), layers=asked.layers, **settings)
        for _ in range(2):
            for inputs, y in asked.batches:
                optimizer.update(inputs, y)
                optimizer.zero_grad()
                (0.5 * (asked.model(**inputs) - y).square().sum() / len(y)).backward()
                optimizer.step()
    before = dict(problems(name)[0].model.named_parameters())
    expected = packed_again(question.model, plain.model)
    assert {*before} == {*expected}
    for parameter, p in question.model.named_parameters():
        close(p, expected[parameter], 1e-9)


def test_a_step_of_some_rows_alone() -> None:
    """Keys and values are of no layer then: they move along the gradient."""
    question, _ = problems("self-attention")
    model = question.model
    before = copy.deepcopy(model.attention.in_proj_weight.data)
    optimizer = EKFAC(
        model,
        ek.Gaussian(),
        damping=1.0,
        momentum=0.0,
        kl_clip=None,
        layers=("attention.q_proj",),
    )
    ((inputs, y), _) = question.batches
    optimizer.update(inputs, y)
    (model(**inputs) - y).square().sum().backward()
    gradient = model.attention.in_proj_weight.grad.clone()
    optimizer.step()
    moved = (before - model.attention.in_proj_weight.data) / 0.1
    close(moved[D:], gradient[D:], 1e-12)
    E = optimizer.preconditioner.operators["attention.q_proj"]
    V = torch.cat([gradient[:D], model.attention.in_proj_bias.grad[:D, None]], 1)
    close(moved[:D], E.solve(V, damping=1.0)[:, :-1], 1e-12)


def test_a_state_is_loaded() -> None:
    question, _ = problems("self-attention")
    ((inputs, y), _) = question.batches
    one, two = (
        EKFAC(copy.deepcopy(question.model), ek.Gaussian(), lr=0.1, damping=0.1) for _ in range(2)
    )
    one.update(inputs, y)
    two.load_state_dict(one.state_dict())
    for layer, E in one.preconditioner.operators.items():
        torch.testing.assert_close(two.preconditioner.operators[layer].dense(), E.dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_lower_precision(dtype: torch.dtype) -> None:
    question, _ = problems("masks")
    exact = ek.kfac(question)
    inputs = [
        ({k: x.to(dtype) if x.is_floating_point() else x for k, x in given.items()}, y.to(dtype))
        for given, y in question.batches
    ]
    K = ek.kfac(ek.Problem(copy.deepcopy(question.model).to(dtype), inputs, ek.Gaussian()))
    for layer in exact:
        close(K[layer].A.double(), exact[layer].A, 1e-6 if dtype == torch.float32 else 1e-1)
