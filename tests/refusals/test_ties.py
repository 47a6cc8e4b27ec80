"""Refused: one weight used in two ways, for which there is no one matrix [W | b]."""

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
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


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


@case("layer 'encoder': its weight or bias is used outside", "untie it")
def weight_transposed() -> Arguments:
    return regression(ByTranspose(), targets=torch.randn(5, 3))


@case("layer 'encoder': its weight or bias is used outside", "call the module itself")
def weight_in_the_output() -> Arguments:
    return regression(WeightDecay())


@case("parameter 'attention.in_proj_weight' (of a MultiheadAttention)", "freeze it")
def attention() -> Arguments:
    return regression(Attention(), torch.randn(5, 3, 4), torch.randn(5, 3, 4))


@case("layer 'attention.out_proj': its weight or bias is used outside", "leave it out")
def attention_by_name() -> Arguments:
    return attention() | {"layers": ("attention.out_proj",)}


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
