"""Refused: one weight used in two ways, for which there is no one matrix [W | b]."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
from tests.support.refusals import ENTRIES, FACTORED, Arguments, Cases, regression

case = Cases()
everywhere = Cases()

WORDS = torch.tensor([[0, 5], [1, 1], [2, 3], [4, 0], [5, 5]])


class LanguageModel(nn.Module):
    """Words in, logits of words out."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(6, 3)
        self.hidden = nn.Linear(3, 3)
        self.head = nn.Linear(3, 6, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.emb(words))))


class HeadByHand(LanguageModel):
    def __init__(self) -> None:
        super().__init__()
        del self.head

    def forward(self, words: Tensor) -> Tensor:
        return F.linear(self.hidden(self.emb(words)), self.emb.weight)


class Autoencoder(nn.Module):
    """Decodes by the transpose of the encoder's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.encoder(x)) @ self.encoder.weight


class ByTranspose(Autoencoder):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.encoder(x)), self.encoder.weight.T)


class WeightDecay(Autoencoder):
    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x) * self.encoder.weight.square().sum()


class ForeignBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 2)
        self.two = nn.Linear(2, 2)
        self.two.bias = self.one.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


class Attention(nn.Module):
    """And any function of it and its inputs, added to what it returns."""

    def __init__(self, also: Callable[..., Any] = lambda a, x: 0, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.also = also

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(x, x, x, need_weights=False)[0]
        return y + self.also(self.attention, x)


def tagging(model: nn.Module) -> Arguments:
    return regression(model, WORDS, torch.randn(5, 2, 6))


def chain(*layers: nn.Module, targets: Tensor) -> Arguments:
    return regression(nn.Sequential(*layers), targets=targets)


@case("layer 'emb': its weight is tied to 'head', a Linear", "Problem(layers=('hidden',))")
def embedding_and_linear() -> Arguments:
    model = LanguageModel()
    model.head.weight = model.emb.weight
    return tagging(model)


@case("layer 'emb': its weight is tied to 'head', a Linear", "Problem(layers=('hidden',))")
def embedding_and_linear_by_name() -> Arguments:
    return embedding_and_linear() | {"layers": ("hidden", "head")}


@case("layer 'emb': its weight or bias is used in two orientations", "call the module itself")
def head_by_hand() -> Arguments:
    return tagging(HeadByHand())


class InEinsum(nn.Module):
    """One weight for two inputs side by side, which einsum repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        both = torch.stack([h, h**2], 1)
        return torch.einsum("neti,eoi->neto", both, self.last.weight[None]).sum(1)


@case(
    "layer 'last': its weight or bias is used outside the layer's own op", "torch.functional.einsum"
)
def a_weight_that_einsum_repeats() -> Arguments:
    x = torch.randn(2, 5, 3)
    return {
        "model": InEinsum(),
        "batches": [(x, torch.randn(2, 5, 2))],
        "likelihood": ek.Gaussian(),
    }


class AttentionOfLinears(nn.Module):
    """As CLIP's pooling is written."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.out = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        apart = {f"{name}_proj_weight": getattr(self, name).weight for name in "qkv"}
        given = (4, 1, None, None, None, None, False, 0.0, self.out.weight, self.out.bias)
        own = {"use_separate_proj_weight": True, "need_weights": False}
        return F.multi_head_attention_forward(x, x, x, *given, **apart, **own)[0].transpose(0, 1)


@case(
    "layer '0.q': its weight or bias is used outside the layer's own op",
    "(torch.nn.functional.multi_head_attention_forward, expected torch.nn.functional.linear)",
)
def linears_in_the_function_of_attention() -> Arguments:
    model = nn.Sequential(AttentionOfLinears())
    x = torch.randn(2, 3, 4)
    return {"model": model, "batches": [(x, torch.randn(2, 3, 4))], "likelihood": ek.Gaussian()}


@everywhere("parameter 'head.weight' shares its memory with 'emb.weight'", ".clone()")
def parameter_over_anothers_memory() -> Arguments:
    model = LanguageModel()
    model.head.weight = nn.Parameter(model.emb.weight.data)
    return tagging(model)


@everywhere("parameter '1.weight' shares its memory with '0.weight'", ".clone()")
def parameter_over_transposed_memory() -> Arguments:
    one, two = nn.Linear(3, 2), nn.Linear(2, 3)
    two.weight = nn.Parameter(one.weight.data.T)
    return chain(one, two, targets=torch.randn(5, 3))


@everywhere("parameter '1.weight' shares its memory with '0.weight'", ".clone()")
def parameter_over_part_of_anothers_memory() -> Arguments:
    one, two = nn.Linear(3, 4), nn.Linear(4, 1)
    two.weight = nn.Parameter(one.weight.data.view(3, 4)[2:])
    return chain(one, two, targets=torch.randn(5, 1))


@case("tied across ['0', '1'], but their biases differ", "tie the biases too")
def different_biases() -> Arguments:
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    two.weight = one.weight
    return chain(one, two, targets=torch.randn(5, 3))


@case("layer '0': its weight is tied to '1', a Conv1d", "untie them")
def two_kinds_of_convolution() -> Arguments:
    one, two = nn.ConvTranspose1d(2, 2, 3, padding=1), nn.Conv1d(2, 2, 3, padding=1)
    two.weight = one.weight
    return regression(nn.Sequential(one, two), torch.randn(5, 2, 4), torch.randn(5, 2, 4))


@case("layer '0': its weight is tied to '1', a Conv1d", "other groups")
def different_groups() -> Arguments:
    one, two = nn.Conv1d(2, 4, 1), nn.Conv1d(4, 4, 1, groups=2)
    two.weight = one.weight
    return regression(nn.Sequential(one, two), torch.randn(5, 2, 3), torch.randn(5, 4, 3))


@case("layer 'two': its weight or bias is used together with another weight", "a bias of its own")
def foreign_bias() -> Arguments:
    return regression(ForeignBias())


@case("layer 'encoder': its weight or bias is used outside", "naming the other layers")
def weight_in_a_matrix_product() -> Arguments:
    return regression(Autoencoder(), targets=torch.randn(5, 3))


@case("layer 'encoder': its weight or bias is used transposed", "untie it")
def weight_transposed() -> Arguments:
    return regression(ByTranspose(), targets=torch.randn(5, 3))


@case("layer 'encoder': its weight or bias is used outside", "call the module itself")
def weight_in_the_output() -> Arguments:
    return regression(WeightDecay())


def attending(model: nn.Module) -> Arguments:
    return regression(model, torch.randn(5, 3, 4), torch.randn(5, 3, 4))


@case("parameter 'attention.bias_k' (of a MultiheadAttention)", "layers=('attention.q_proj', ")
def rows_that_are_added_to_keys_and_values() -> Arguments:
    return attending(Attention(add_bias_kv=True))


@case("layers: 'attention' is a MultiheadAttention, which has several layers", "'attention.q_proj'")
def attention_by_its_own_name() -> Arguments:
    return attending(Attention()) | {"layers": ("attention",)}


@case("layers: 'attention.in_proj_weight' is a parameter", "choose among ['attention.q_proj'")
def attention_by_its_parameter() -> Arguments:
    return attending(Attention()) | {"layers": ("attention.in_proj_weight",)}


@case(
    "layer 'attention.q_proj': its weight or bias is used outside", "multi_head_attention_forward"
)
def packed_weight_in_a_matrix_product() -> Arguments:
    return attending(Attention(lambda a, x: x @ a.in_proj_weight[:4]))


@case("layer 'attention.q_proj': its weight or bias is used outside", "('attention.out_proj',)")
def packed_weight_as_one_layer() -> Arguments:
    return attending(Attention(lambda a, x: F.linear(x, a.in_proj_weight, a.in_proj_bias)[..., :4]))


@case("layer '1': its weight is tied to '0.attention.q_proj', a MultiheadAttention", "untie them")
def packed_weight_of_a_linear_layer() -> Arguments:
    model = nn.Sequential(Attention(), nn.Linear(4, 12), nn.Linear(12, 4))
    model[1].weight = model[0].attention.in_proj_weight
    return attending(model)


@case("tied across ['attention.q_proj', 'attention.k_proj'], but their biases", "tie the biases")
def queries_and_keys_by_one_weight() -> Arguments:
    class Values(Attention):
        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x[..., :3])[0]

    model = Values(vdim=3)
    model.attention.k_proj_weight = model.attention.q_proj_weight
    return attending(model)


test_a_tie_without_one_matrix_is_refused_by_name = case.at(FACTORED)
test_a_tie_that_gradients_cannot_see_is_refused = everywhere.at(ENTRIES)


def test_a_frozen_bias_of_a_tied_module_is_a_constant() -> None:
    """One matrix [W | b] after all, with 0 in the place of the 1 where b is not the bias."""
    arguments = different_biases()
    arguments["model"][1].bias.requires_grad_(False)
    problem = ek.Problem(**arguments, fisher=ek.Empirical())
    by_definition = ek.exact_fisher(problem)["0"]
    assert by_definition.shape == (3, 4)
    torch.testing.assert_close(ek.ekfac(problem)["0"].trace(), by_definition.trace())
