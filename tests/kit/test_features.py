"""Features of a problem are what a reader of its model and data would say of it."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ekfac_ref as ek
from ekfac_ref.conformance.problems import networks
from ekfac_ref.conformance.problems.features import FEATURES, features, with_mute

pytestmark = pytest.mark.shapes
IMAGE = (2, 4, 5, 5)


def problem(model: nn.Module, *shape: int, **options: object) -> ek.Problem:
    """Random inputs of this shape, the first number that of the samples."""
    x = torch.randn(shape)
    y = torch.zeros(len(model.eval()(x)), *model(x).shape[1:])
    return ek.Problem(model, [(x, y)], ek.Gaussian(), **options)  # type: ignore[arg-type]


def conv(**options: object) -> nn.Module:
    options = {"kernel_size": 3, **options}
    return nn.Sequential(nn.Conv2d(4, 4, **options), nn.Flatten())  # type: ignore[arg-type]


def tied() -> nn.Module:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight, second.bias = first.weight, first.bias
    return nn.Sequential(first, nn.Tanh(), second)


def under_two_names() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.Tanh(), layer)


def frozen(*names: str, model: nn.Module) -> nn.Module:
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model


LAYERS = {
    "no bias": (conv(bias=False), IMAGE),
    "groups": (conv(groups=2), IMAGE),
    "depthwise": (conv(groups=4), IMAGE),
    "stride": (conv(stride=2), IMAGE),
    "dilation": (conv(dilation=2), IMAGE),
    "padding": (conv(padding=1), IMAGE),
    "uneven kernel": (conv(kernel_size=(3, 2)), IMAGE),
    "uneven stride": (conv(stride=(1, 2)), IMAGE),
    "uneven dilation": (conv(dilation=(2, 1)), IMAGE),
    "uneven padding": (conv(padding=(0, 1)), IMAGE),
    "padding same, even": (conv(padding="same"), IMAGE),
    "padding same, odd": (
        nn.Sequential(nn.Conv2d(4, 4, (3, 2), padding="same"), nn.Flatten()),
        IMAGE,
    ),
    "padding mode": (conv(padding=1, padding_mode="reflect"), IMAGE),
    "output padding": (
        nn.Sequential(nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1), nn.Flatten()),
        IMAGE,
    ),
    "positions of a Linear, one axis": (
        nn.Sequential(nn.Linear(3, 2), networks.TokenMean()),
        (2, 4, 3),
    ),
    "positions of a Linear, several axes": (nn.Linear(3, 2), (2, 4, 3, 3)),
    "called twice": (
        networks.CalledTwice(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)),
        (2, 3),
    ),
    "tied weight": (tied(), (2, 3)),
    "one module, two names": (under_two_names(), (2, 3)),
    "in-place activation": (nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True)), (2, 3)),
    "outputs at positions": (nn.Linear(3, 2), (2, 4, 3)),
    "frozen bias": (frozen("0.bias", model=conv()), IMAGE),
    "padding by reflection": (conv(padding=1, padding_mode="reflect"), IMAGE),
    "more positions than weights": (nn.Linear(2, 2), (2, 4, 2)),
    "convolution behind a layer": (
        nn.Sequential(nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1), nn.Flatten()),
        IMAGE,
    ),
    "tokens as samples": (networks.Folded(nn.Linear(3, 2)), (2, 4, 3)),
    "tokens first": (networks.TokensFirst(nn.Linear(3, 2)), (2, 4, 3)),
    "self-attention": (networks.SelfAttention(*(nn.Linear(3, 3) for _ in range(4))), (2, 4, 3)),
    "weight used beside its module": (networks.UsedBeside(nn.Linear(3, 3)), (2, 3)),
    "one input for all samples": (
        networks.PlusConstant(nn.Linear(3, 2), nn.Linear(4, 2)),
        (2, 3),
    ),
    "input changed in place": (
        nn.Sequential(nn.Linear(3, 3), networks.ChangesItsInput(nn.Linear(3, 3))),
        (2, 3),
    ),
    "subclass of a layer": (networks.ScaledLinear(3, 2), (2, 3)),
    "frozen layer": (
        frozen("1.weight", model=nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))),
        (2, 3),
    ),
    "parameters of no layer": (nn.Sequential(nn.Linear(3, 2), nn.PReLU()), (2, 3)),
    "BatchNorm": (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), (2, 3)),
    "dropout": (nn.Sequential(nn.Linear(3, 2), nn.Dropout()), (2, 3)),
    "one sample": (nn.Linear(3, 2), (1, 3)),
    "fewer rows than inputs": (nn.Linear(3, 2), (2, 3)),
}
PLAIN = {
    "Linear": (nn.Linear(3, 2), (5, 3)),
    "Conv2d": (conv(), (9, *IMAGE[1:])),
}
OF_A_QUESTION = {"Gaussian", "exact Fisher", "expand", "float32"}


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_seen(name: str) -> None:
    model, shape = LAYERS[name]
    assert name in features(problem(model, *shape))


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_else_is(name: str) -> None:
    """The plain case of a layer has its kind, and its positions if it cannot be without."""
    model, shape = PLAIN[name]
    extra = {"positions of a convolution"} if name == "Conv2d" else set()
    assert set(features(problem(model, *shape))) == {name, *extra} | OF_A_QUESTION


def test_of_the_question() -> None:
    labels = torch.tensor([[0, -100, 1], [1, 0, 0]])
    x = torch.cat([torch.zeros(2, 3, 3), torch.ones(2, 3, 1)], 2).double()
    model = nn.Linear(4, 2, bias=False).double()
    with torch.no_grad():
        model.weight.zero_()[0, -1] = 20
    asked = ek.Problem(
        nn.Sequential(model, networks.ClassesFirst()),
        [(x, labels), (x[:1], labels[:1])],
        ek.Categorical(class_axis=1),
        fisher=ek.Empirical(),
        sharing=ek.Reduce(),
        layers=("0",),
        mask=lambda inputs: torch.ones(len(inputs), 3, dtype=torch.bool),
    )
    assert set(features(asked)) == {
        *("Linear", "no bias", "positions of a Linear, one axis", "some layers only", "mask"),
        "several batches",
        *("outputs at positions", "class axis", "ignored labels", "saturated", "uneven batches"),
        *("Categorical", "empirical Fisher", "reduce", "float64"),
    }


def test_several_inputs_are_seen_and_a_mask_is_none() -> None:
    x = torch.ones(2, 3)
    two = networks.TwoBranches(nn.Linear(3, 2), nn.Linear(3, 2))
    one = networks.MaskedMean(nn.Linear(3, 2), nn.Identity())
    for model, inputs, several in (
        (two, (x, x), True),
        (one, {"x": x[:, None], "mask": torch.ones(2, 1, dtype=torch.bool)}, False),
    ):
        asked = ek.Problem(model, [(inputs, torch.zeros(2, 2))], ek.Gaussian())
        assert ("several inputs" in features(asked)) == several


def test_a_loader_is_seen_and_what_it_drops() -> None:
    x, y = torch.randn(3, 2), torch.zeros(3, 2)
    for drops in (False, True):
        loader = DataLoader(TensorDataset(x, y), batch_size=2, drop_last=drops)
        found = features(ek.Problem(nn.Linear(2, 2), loader, ek.Gaussian()))
        assert {"DataLoader", "DataLoader, drop_last"} & set(found) == (
            {"DataLoader", "DataLoader, drop_last"} if drops else {"DataLoader"}
        )
        assert ("several batches" in found) != drops


def test_a_mask_in_some_batches_is_seen() -> None:
    x, y, counts = torch.randn(2, 3, 2), torch.zeros(2, 2), torch.ones(2, 3, dtype=torch.bool)
    with_mask, without = ({"x": x, "mask": counts}, y), ({"x": x}, y)
    model = networks.MaskedMean(nn.Linear(2, 2), nn.Identity())
    for batches, some in (([with_mask, without], True), ([with_mask], False), ([without], False)):
        asked = ek.Problem(model, batches, ek.Gaussian(), mask=lambda given: given.get("mask"))
        assert ("mask in some batches" in features(asked)) == some


def test_attention_of_torch_is_seen_where_its_own_layers_are_not_asked_about() -> None:
    attention = networks.Attending(nn.MultiheadAttention(3, 1, batch_first=True))
    asked = problem(nn.Sequential(nn.Linear(3, 3), attention), 2, 4, 3, layers=("0",))
    assert {"MultiheadAttention", "parameters of no layer"} <= set(features(asked))


def test_a_call_with_the_layers_own_output_is_not_behind_another_layer() -> None:
    twice = networks.CalledTwice(nn.Conv2d(4, 4, 2), nn.Tanh(), nn.Flatten())
    assert "convolution behind a layer" not in features(problem(twice, *IMAGE))


def test_a_tied_module_is_no_use_beside_a_module() -> None:
    for layers in (None, ("0",)):
        found = features(problem(tied(), 2, 3, layers=layers))
        assert "weight used beside its module" not in found


def test_only_layers_that_are_asked_about_count() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(36, 2))
    asked = problem(model, 40, 4, 5, 5, layers=("2",))
    assert set(features(asked)) == {"Linear", "some layers only"} | OF_A_QUESTION


def test_nothing_is_changed() -> None:
    model = conv()
    asked = problem(model, *IMAGE)
    features(asked)
    assert not model[0]._forward_hooks  # type: ignore[index]


def test_every_feature_has_a_case() -> None:
    kinds = {kind.__name__ for feature in FEATURES.values() for kind in feature.kinds}
    told = set(LAYERS) | kinds | OF_A_QUESTION
    told |= {"mask", "class axis", "ignored labels", "saturated", "uneven batches", "Categorical"}
    told |= {"empirical Fisher", "reduce", "float64", "some layers only", "Bernoulli", "Poisson"}
    told |= {"several batches", "several inputs", "MultiheadAttention", "mask in some batches"}
    told |= {"DataLoader", "DataLoader, drop_last"}
    told |= {"bfloat16", "positions of a convolution", "positions of an Embedding", "padding_idx"}
    assert set(FEATURES) == told


UNEVEN = {f"uneven {name}": {name} for name in ("stride", "dilation", "padding")}
IMPLIED = {"depthwise": {"groups"}, "padding mode": {"padding", "padding by reflection"}, **UNEVEN}
OF_CONV2D = ("no bias", "groups", "depthwise", "stride", "dilation", "padding", "padding mode")


@pytest.mark.parametrize("name", [*OF_CONV2D, "padding same, even", "uneven kernel", *UNEVEN])
def test_what_is_special_is_one_thing(name: str) -> None:
    """Half of the groups are no depthwise convolution, a stride is no dilation."""
    model, shape = LAYERS[name]
    size = {"fewer rows than inputs", "more positions than weights"}  # which follow the geometry
    beyond = set(features(problem(model, *shape))) - set(features(problem(conv(), *shape))) - size
    assert beyond == {name} | IMPLIED.get(name, set())


def of_tokens() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2, bias=False), networks.TokenMean(), nn.Linear(2, 2))


def zero(model: nn.Sequential, number: int) -> ek.Problem:
    """A problem in which the weight of one layer is zero."""
    nn.init.zeros_(model.get_parameter(f"{number}.weight"))
    return problem(model, 5, 8, 3)


def no_inputs(model: nn.Sequential) -> ek.Problem:
    x, y = torch.zeros(5, 8, 3), torch.ones(5, 2)
    return ek.Problem(model, [(x[:2], y[:2]), (x[2:], y[2:])], ek.Gaussian())


def ignored(*labels: int) -> ek.Problem:
    """One batch for each, all of whose labels it is."""
    batches = [(torch.randn(5, 8, 3), torch.full((5,), label)) for label in labels]
    return ek.Problem(of_tokens(), batches, ek.Categorical(), fisher=ek.Empirical())


OF_THE_FIRST = {"no bias", "positions of a Linear, one axis", "more positions than weights"}


@pytest.mark.parametrize(
    ("given", "mute"),
    [
        (problem(of_tokens(), 5, 8, 3), set()),
        (zero(of_tokens(), 0), set()),
        (zero(of_tokens(), 2), OF_THE_FIRST),
        (no_inputs(of_tokens()), OF_THE_FIRST),
        (ignored(-100), {*OF_THE_FIRST, "Linear"}),
        (ignored(1, -100), set()),
        (problem(nn.Sequential(nn.Linear(3, 2)), 2, 3), set()),
    ],
    ids=["all", "no output", "no gradient", "no inputs", "no labels", "some labels", "few rows"],
)
def test_features_of_layers_without_gradient_are_mute(given: ek.Problem, mute: set[str]) -> None:
    names, silent = with_mute(given)
    assert names == features(given)
    assert {*silent} == mute
