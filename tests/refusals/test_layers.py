"""Refused: parameters that no layer covers, layers that cannot be had, names that name nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import ekfac_ref as ek
from tests.support.refusals import ENTRIES, FACTORED, Arguments, Cases, regression

case = Cases()
without_factors = Cases()


def two_layers(**options: Any) -> Arguments:
    """A sound problem with the layers "0" and "2", and the options under test."""
    return regression(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))) | options


def words(**options: Any) -> Arguments:
    """Five sentences of two words, an Embedding "0" with the options under test."""
    model = nn.Sequential(nn.Embedding(6, 3, **options), nn.Flatten(), nn.Linear(6, 2))
    return regression(model, torch.tensor([[0, 5], [1, 1], [2, 3], [4, 0], [5, 5]]))


class RawParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.gain = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.linear(x)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(3, 4, batch_first=True, **options)
        outputs = self.rnn(torch.zeros(1, 1, 3))[0].shape[-1]
        self.head = nn.Linear(outputs, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Skipping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(3, 2)
        self.idle = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


@without_factors("parameter '1.weight' (of a LayerNorm)", "Problem(layers=('0',))")
def norm_layer() -> Arguments:
    return regression(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))


@without_factors("parameter '1.weight' (of a BatchNorm1d)", "freeze it, or say that it is left out")
def batch_norm_in_eval_mode() -> Arguments:
    return regression(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))


@without_factors("parameter 'rnn.weight_ih_l0' (of a GRU)", "Problem(layers=('head',))")
def recurrent_network() -> Arguments:
    return regression(Recurrent(), torch.randn(5, 4, 3))


@without_factors("parameter 'gain' (of a RawParameter)", "Problem(layers=('linear',))")
def raw_parameter() -> Arguments:
    return regression(RawParameter())


@without_factors("parameter '0.bias' (of a Linear)", "freeze it")
def trainable_bias_on_a_frozen_weight() -> Arguments:
    arguments = two_layers()
    arguments["model"][0].weight.requires_grad_(False)
    return arguments


@without_factors("(of a ParametrizedLinear)", "Problem(layers=('2',))")
def reparametrized_weight() -> Arguments:
    arguments = two_layers()
    parametrizations.weight_norm(arguments["model"][0])
    return arguments


@case("layers: the weight of '0' is computed", "remove_parametrizations")
def reparametrized_weight_by_name() -> Arguments:
    return reparametrized_weight() | {"layers": ("0", "2")}


@case("layers: there is no module 'fc1'", "choose among ['0', '2']")
def unknown_name() -> Arguments:
    return two_layers(layers=("0", "fc1"))


@case("layers: 'gain[0]' is one matrix of a parameter", "layers_of(problem), which an optimizer")
def part_of_a_parameter() -> Arguments:
    """Of a stack of experts, say, that no data has shown."""
    return regression(RawParameter()) | {"layers": ("linear", "gain[0]")}


@case("layers: '1' is a Tanh", "choose among ['0', '2']")
def name_of_an_activation() -> Arguments:
    return two_layers(layers=("0", "1"))


@case("layers: the weight of '2' is frozen", "leave the name out")
def name_of_a_frozen_layer() -> Arguments:
    arguments = two_layers(layers=("0", "2"))
    arguments["model"][2].requires_grad_(False)
    return arguments


@case("layers: '0' is one string", "('0',)")
def names_as_one_string() -> Arguments:
    return two_layers(layers="0")


@case("layers: no name is given", "leave layers=None")
def no_names() -> Arguments:
    return two_layers(layers=())


@case("layers: the model has no supported layer", "requires_grad_(True)")
def everything_frozen() -> Arguments:
    arguments = two_layers()
    arguments["model"].requires_grad_(False)
    return arguments


@without_factors("model: its forward failed on one sample", "mat1 and mat2 shapes")
def data_that_does_not_fit_a_model_with_norms() -> Arguments:
    """Whose layers nobody can name before it runs."""
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    return regression(model)


@case("layer 'idle': its weight was never used", "Problem(layers=...)")
def layer_that_is_never_called() -> Arguments:
    return regression(Skipping())


@case("layer '0': Embedding with max_norm", "switch max_norm off")
def embedding_with_max_norm() -> Arguments:
    return words(max_norm=1.0)


@case("layer '0': Embedding with scale_grad_by_freq", "switch scale_grad_by_freq off")
def embedding_with_scaled_gradient() -> Arguments:
    return words(scale_grad_by_freq=True)


@case("layer '0': Embedding with sparse", "switch sparse off")
def embedding_with_sparse_gradient() -> Arguments:
    return words(sparse=True)


@case("parameter '2.bias': NaN or infinity", "restore the last good ones")
def infinite_parameter() -> Arguments:
    arguments = two_layers()
    arguments["model"][2].bias.data[1] = torch.inf
    return arguments


@case("parameter '0.weight': NaN or infinity", "restore the last good ones")
def nan_parameter() -> Arguments:
    arguments = two_layers()
    arguments["model"][0].weight.data[0, 0] = torch.nan
    return arguments


@case("parameter '0.weight': it is on the meta device", "to_empty")
def parameters_without_memory() -> Arguments:
    return regression(nn.Sequential(nn.Linear(3, 2)).to("meta"))


@case("parameter '2.weight': it is on the meta device", "to_empty")
def one_layer_without_memory() -> Arguments:
    arguments = two_layers()
    arguments["model"][2].to("meta")
    return arguments


@case("parameter '0.weight': it has no shape yet", "call the model once")
def lazy_layer() -> Arguments:
    return regression(nn.Sequential(nn.LazyLinear(2)))


@case("parameter '0.weight': complex", "real")
def complex_parameter() -> Arguments:
    return regression(nn.Sequential(nn.Linear(3, 2, dtype=torch.complex64)))


@case("layer '2': inputs are torch.float32, its weight torch.float64", "convert the data with .to")
def layers_of_two_dtypes() -> Arguments:
    arguments = two_layers()
    arguments["model"][2].double()
    return arguments


@without_factors("layers: '1.weight' is a parameter", "choose among ['0']")
def name_of_a_parameter() -> Arguments:
    return norm_layer() | {"layers": ("0", "1.weight")}


@case("layers: '1' is a LayerNorm", "name its parameters for exact_fisher alone, ('1.weight',")
def name_of_a_norm_layer() -> Arguments:
    return norm_layer() | {"layers": ("0", "1")}


test_a_layer_that_is_not_supported_is_refused_by_name = case.at(ENTRIES)
test_a_parameter_of_no_layer_has_no_factors = without_factors.at(FACTORED)


@pytest.mark.parametrize(
    ("build", "layers"),
    [
        (norm_layer, ("0",)),
        (batch_norm_in_eval_mode, ("0",)),
        (recurrent_network, ("head",)),
        (raw_parameter, ("linear",)),
        (reparametrized_weight, ("2",)),
        (layer_that_is_never_called, ("used",)),
    ],
)
def test_the_advice_to_name_the_layers_works(
    build: Callable[[], Arguments], layers: tuple[str, ...]
) -> None:
    problem = replace(ek.Problem(**build()), layers=layers)
    for name, entry in ENTRIES.items():
        if name not in ("full_fisher", "per_sample_gradients"):
            assert tuple(entry(problem)) == layers


@pytest.mark.shapes
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (nn.GRU, {"num_layers": 2}),
        (nn.LSTM, {"bidirectional": True, "num_layers": 2}),
        (nn.LSTM, {"proj_size": 2}),
        (nn.RNN, {}),
        (nn.RNN, {"nonlinearity": "relu", "bias": False}),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_layer_behind_a_recurrent_network(
    kind: type[nn.RNNBase], options: dict[str, Any]
) -> None:
    """torch has no batching rule for these; rewritten, they must stay the same function."""
    model, x, y = Recurrent(kind, **options).eval(), torch.randn(5, 4, 3), torch.randn(5, 2)
    behind = ek.Problem(model, [(x, y)], ek.Gaussian(), fisher=ek.Empirical(), layers=("head",))
    hidden = model.rnn(x)[0][:, -1].detach()
    alone = ek.Problem(model.head, [(hidden, y)], ek.Gaussian(), fisher=ek.Empirical())
    for entry in (ek.exact_fisher, ek.kfac, ek.ekfac):
        torch.testing.assert_close(entry(behind)["head"].dense(), entry(alone)[""].dense())


@pytest.mark.parametrize(
    ("argument", "wrong", "advice"),
    [
        ("model", torch.tanh, "a torch.nn.Module"),
        ("model", nn.Linear, "a torch.nn.Module"),
        ("fisher", "exact", "Exact(), Sampled()"),
        ("fisher", ek.Exact, "Exact(), Sampled()"),
        ("sharing", ek.Reduce, "Expand() or Reduce()"),
        ("likelihood", ek.Gaussian, "Gaussian()"),
        ("likelihood", nn.MSELoss(), "likelihood_of(torch_loss)"),
        ("mask", torch.ones(5, 1, dtype=torch.bool), "a function"),
        ("layers", ek.Gaussian, "a tuple of names"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_at_once(
    argument: str, wrong: Any, advice: str
) -> None:
    with pytest.raises(ek.ProblemError) as caught:
        ek.Problem(**two_layers(**{argument: wrong}))
    assert str(caught.value).startswith(f"{argument}: ")
    assert advice in str(caught.value)
