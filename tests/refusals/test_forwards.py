"""Refused: models for which "the gradient of one sample" means nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.refusals import ENTRIES, Arguments, Cases, regression

case = Cases()


class Then(nn.Module):
    """A Linear layer, and then any function of its output."""

    def __init__(self, function: Callable[[Tensor], Any], d_out: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(3, d_out)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.linear(x))


class Counts(nn.Module):
    """Grows with every call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.calls * self.linear(x)


class InCompany(nn.Module):
    """Some samples cannot be alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1 and bool(x[0, 0] < 0):
            raise RuntimeError("no")
        return self.linear(x)


class AddsItsLastOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.cached = None

    def forward(self, x: Tensor) -> Tensor:
        f = self.linear(x)
        self.cached = f if self.cached is None else f + self.cached.mean()
        return self.cached


def in_train_mode(*layers: nn.Module) -> Arguments:
    arguments = regression(nn.Sequential(nn.Linear(3, 2), *layers))
    arguments["model"].train()
    return arguments


@case("layer '1': a BatchNorm1d in train mode", "call model.eval()")
def batch_norm_in_train_mode() -> Arguments:
    return in_train_mode(nn.BatchNorm1d(2))


@case("layer '1': a BatchNorm1d", "tracks running statistics")
def batch_norm_without_statistics() -> Arguments:
    return regression(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, track_running_stats=False)))


@case("layer '1': a Dropout in train mode", "call model.eval()")
def dropout_in_train_mode() -> Arguments:
    return in_train_mode(nn.Dropout(0.1))


@case("layer '1': a AlphaDropout in train mode", "call model.eval()")
def alpha_dropout_in_train_mode() -> Arguments:
    return in_train_mode(nn.AlphaDropout(0.1))


@case("layer '1': a RReLU in train mode", "call model.eval()")
def random_slope_in_train_mode() -> Arguments:
    return in_train_mode(nn.RReLU())


@case("model: two calls on the same inputs", "make its forward deterministic")
def functional_dropout() -> Arguments:
    return regression(Then(F.dropout))


@case("model: two calls on the same inputs", "make its forward deterministic")
def noise() -> Arguments:
    return regression(Then(lambda f: f + torch.randn_like(f)))


@case("model: two calls on the same inputs", "make its forward deterministic")
def noise_that_torch_does_not_see() -> Arguments:
    return regression(Then(lambda f: f * np.random.uniform()))


@case("model: two calls on the same inputs", "no state from call to call")
def state_from_call_to_call() -> Arguments:
    return regression(Counts())


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def item_in_forward() -> Arguments:
    return regression(Then(lambda f: f / f.abs().max().item()))


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def control_flow_on_the_batch() -> Arguments:
    return regression(Then(lambda f: f if len(f) > 1 and f.sum() < 9 else -f))


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def shapes_from_data() -> Arguments:
    return regression(Then(lambda f: f + f[f > 0].sum()))


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def centred_over_the_batch() -> Arguments:
    return regression(Then(lambda f: f - f.mean(0)))


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def centred_and_in_float32_alone() -> Arguments:
    def run(f: Tensor) -> Tensor:
        assert f.dtype == torch.float32
        return f - f.mean(0)

    arguments = regression(Then(run))
    batches = [(x.float(), y.float()) for x, y in arguments["batches"]]
    return arguments | {"model": arguments["model"].float(), "batches": batches}


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def running_total() -> Arguments:
    return regression(Then(lambda f: f.cumsum(0)))


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def mixing_of_small_outputs() -> Arguments:
    return regression(Then(lambda f: 1e-4 * (f - f.mean(0))))


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def mixing_behind_a_batch_of_one() -> Arguments:
    arguments = centred_over_the_batch()
    (x, y), rest = arguments["batches"]
    return arguments | {"batches": [(x[:1], y[:1]), (x[1:], y[1:]), rest]}


@case("model: the output of a sample depends on the other samples", "remove what mixes them")
def mixing_behind_a_batch_of_equal_samples() -> Arguments:
    """Which show nothing: less their mean, they are zero together and alone."""
    arguments = regression(Then(lambda f: f - f.mean(0).detach()))
    (x, y), rest = arguments["batches"]
    return arguments | {"batches": [(x[:1].expand(3, 3), y), rest]}


@case("its forward fails on one sample of several by itself", "make that work first")
def one_sample_fails_alone() -> Arguments:
    return regression(InCompany(), torch.tensor([1.0, 2.0, -1.0, 3.0, 4.0])[:, None].expand(5, 3))


@case("model: for one sample it returned shape [2]", "no mean over the batch")
def reduced_over_the_batch() -> Arguments:
    return regression(Then(lambda f: f.mean(0)))


@case("model: for one sample it returned shape []", "axis 0 has to be the samples")
def returns_its_loss() -> Arguments:
    return regression(Then(lambda f: f.square().mean()))


@case("axis 0 of the output has to be the samples", "gave outputs of shape [1, 2] together")
def reduced_with_its_axis_kept() -> Arguments:
    return regression(Then(lambda f: f.mean(0, keepdim=True)))


@case("model: it returned a tuple, of Tensor, Tensor", "Problem(output=lambda o: o[0])")
def returns_a_tuple() -> Arguments:
    return regression(Then(lambda f: (f, f.square())))


@case("model: it returned a dict, with start, end", "Problem(output=lambda o: o['start'])")
def returns_a_dict() -> Arguments:
    return regression(Then(lambda f: {"start": f, "end": f}))


@case("model: it returned a NoneType", "say which one tensor in it has the outputs")
def returns_nothing() -> Arguments:
    return regression(Then(lambda f: None))


@case("model: its outputs are torch.int64", "before argmax")
def returns_class_numbers() -> Arguments:
    return regression(Then(lambda f: f.argmax(-1)))


@case("model: NaN or infinity in its outputs", "division by zero")
def returns_infinity() -> Arguments:
    return regression(Then(lambda f: f / 0))


@case("model: its forward failed", "look at the error above")
def raises_an_error() -> Arguments:
    return regression(Then(lambda f: {}["missing"]))


@case("model: its forward reads a tensor", "delete what its forward has cached")
def reads_its_last_output() -> Arguments:
    arguments = regression(AddsItsLastOutput())
    arguments["model"](torch.randn(1, 3))
    return arguments


test_a_model_without_per_sample_gradients_is_refused = case.at(ENTRIES)
