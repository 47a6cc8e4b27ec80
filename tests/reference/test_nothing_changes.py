"""Whatever is asked, and however it ends, everything of the caller's is as it was before."""

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction
from torch.utils.data import DataLoader, Dataset, RandomSampler

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.forward import call
from tests.support.refusals import ENTRIES

# The model with everything has hooks on gradients, too.
pytestmark = pytest.mark.filterwarnings("ignore:.*its backward hook")
FISHERS = (ek.Exact(), ek.Sampled(draws=2), ek.Empirical())

Batches = list[tuple[Tensor, Tensor]]


class Everything(nn.Module):
    """One module under two names, frozen parameters, buffers and inputs that forward writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.also_first = self.first
        self.norm = nn.BatchNorm1d(4).requires_grad_(False)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.register_buffer("largest", torch.zeros(2))
        self.last_shape: torch.Size | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.largest.clamp_(min=1.0)
        self.last_shape = x.shape
        x.mul_(2)
        h = torch.relu_(self.norm(self.first(x)))
        return self.head(self.dropout(self.frozen(h) + self.also_first(x)))


def everything() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Everything().eval()
    model.first.weight.grad = torch.ones(4, 3)
    model.norm.train(False)
    model.frozen.train()  # a flag without meaning, to be kept all the same
    model.head.register_forward_pre_hook(lambda module, args: None)
    model.head.register_forward_hook(lambda module, args, output: output + 1)
    model.first.register_full_backward_pre_hook(lambda module, gradients: None)
    model.first.register_full_backward_hook(lambda module, before, after: None)
    model.register_state_dict_pre_hook(lambda module, prefix, keep_vars: None)
    model.head.weight.register_hook(lambda gradient: 2 * gradient)
    model.head.bias.register_post_accumulate_grad_hook(lambda parameter: None)
    return model


def data() -> Batches:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(5, 3, generator=generator), torch.randn(5, 2, generator=generator)
    return [(x[:1], y[:1]), (x[1:], y[1:])]


def linear() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2))


EVERY_ENTRY = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


@EVERY_ENTRY
@pytest.mark.parametrize("fisher", FISHERS)
@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])
def test_a_model_with_everything(entry: Callable[..., Any], fisher: Any, sharing: Any) -> None:
    model, batches = everything(), data()
    problem = ek.Problem(model, batches, ek.Gaussian(), fisher=fisher, sharing=sharing)
    before = snapshot(model, batches)
    entry(problem)
    assert snapshot(model, batches) == before
    assert not torch.equal(model.calls, torch.ones(()))


def test_a_forward_that_writes_to_its_inputs_is_no_other_function() -> None:
    class Doubling(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(2 * x)

    class DoublingInPlace(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

    layer = nn.Linear(3, 2)
    for entry in (ek.exact_fisher, ek.kfac, ek.ekfac):
        one, two = (
            entry(ek.Problem(kind(layer), data(), ek.Gaussian(), fisher=ek.Empirical()))["0"]
            for kind in (Doubling, DoublingInPlace)
        )
        assert torch.equal(one.dense(), two.dense())


@EVERY_ENTRY
@pytest.mark.parametrize(
    "mode", [nullcontext, torch.enable_grad, torch.no_grad, torch.inference_mode]
)
@pytest.mark.parametrize("leaf", [True, False])
def test_any_grad_mode_and_inputs_that_require_grad(
    entry: Callable[..., Any], mode: Callable[[], AbstractContextManager[Any]], leaf: bool
) -> None:
    model, batches = linear(), [(x.requires_grad_(), y) for x, y in data()]
    if not leaf:
        batches = [(2 * x, y) for x, y in batches]
    problem = ek.Problem(model, batches, ek.Gaussian())
    with mode():
        before = snapshot(model, batches)
        entry(problem)
        assert snapshot(model, batches) == before


def test_the_grad_mode_between_two_chunks_is_the_callers() -> None:
    chunks = ek.per_sample_gradients(ek.Problem(linear(), data(), ek.Gaussian()))
    modes = [torch.is_grad_enabled() for _ in chunks]
    assert modes == [True, True]


def test_results_hang_on_no_graph() -> None:
    for G in ek.per_sample_gradients(ek.Problem(linear(), data(), ek.Gaussian())):
        assert not G["0"].requires_grad
    for entry in (ek.exact_fisher, ek.kfac, ek.ekfac):
        assert not entry(ek.Problem(linear(), data(), ek.Gaussian()))["0"].dense().requires_grad


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Eight samples, augmented by all three random number generators."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(()) + random.random() + np.random.uniform()
        return n + noise * torch.arange(3.0), torch.full((2,), float(n))


def shuffled() -> DataLoader[Any]:
    return DataLoader(Noisy(), batch_size=3, shuffle=True)


def shuffled_by_its_own() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(5)
    return DataLoader(Noisy(), batch_size=3, shuffle=True, generator=generator)


def shuffled_by_its_sampler() -> DataLoader[Any]:
    sampler = RandomSampler(Noisy(), generator=torch.Generator().manual_seed(5))
    return DataLoader(Noisy(), batch_size=3, sampler=sampler)


LOADERS = pytest.mark.parametrize("load", [shuffled, shuffled_by_its_own, shuffled_by_its_sampler])


@EVERY_ENTRY
@LOADERS
def test_a_loader_that_shuffles(entry: Callable[..., Any], load: Callable[[], Any]) -> None:
    model, loader = linear(), load()
    generator = loader.sampler.generator or torch.Generator()
    before = snapshot(model, generator.get_state())
    entry(ek.Problem(model, loader, ek.Gaussian()))
    after = snapshot(model, generator.get_state())
    assert {key: after[key] for key in after if not key.startswith("data")} == {
        key: before[key] for key in before if not key.startswith("data")
    }
    assert after["data 0 values"] == before["data 0 values"]


@pytest.mark.filterwarnings("ignore:model. torch.vmap cannot run")
@EVERY_ENTRY
@LOADERS
def test_a_loader_that_is_read_to_find_layers(
    entry: Callable[..., Any], load: Callable[[], Any]
) -> None:
    """A Parameter of no module: the first batch shows what the forward does with it."""

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W = nn.Parameter(torch.ones(3, 2))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.W + 0 * torch.rand(2)

    loader = load()
    own = loader.sampler.generator or torch.Generator()
    before = [torch.get_rng_state(), own.get_state()]
    entry(ek.Problem(Bare().eval(), loader, ek.Gaussian()))
    assert all(map(torch.equal, before, [torch.get_rng_state(), own.get_state()]))


@LOADERS
@pytest.mark.parametrize("fisher", FISHERS)
def test_every_pass_sees_the_same_shuffle_and_noise(load: Callable[[], Any], fisher: Any) -> None:
    """Or else the eigenvalues belong to other samples, or other labels, than the basis."""
    model = nn.Sequential(nn.Linear(3, 2))
    problem = ek.Problem(model, load(), ek.Gaussian(), fisher=fisher)
    traces = [entry(problem)["0"].trace() for entry in (ek.exact_fisher, ek.ekfac) * 2]
    for trace in traces[1:]:
        torch.testing.assert_close(trace, traces[0])


class BreaksOff:
    """One batch, some random numbers, and an error."""

    def __init__(self, batch: tuple[Tensor, Tensor]) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.batch
        self.batch[0] + torch.rand(()) + random.random() + np.random.uniform()
        raise OSError("the disk is gone")


@EVERY_ENTRY
def test_data_that_breaks_off(entry: Callable[..., Any]) -> None:
    model, batches = everything(), data()
    before = snapshot(model, batches)
    with pytest.raises(OSError, match="the disk is gone"):
        entry(ek.Problem(model, BreaksOff(batches[1]), ek.Gaussian()))
    assert snapshot(model, batches) == before


@EVERY_ENTRY
def test_targets_that_turn_out_bad_in_the_second_batch(entry: Callable[..., Any]) -> None:
    model, batches = everything(), data()
    batches[1][1][3, 0] = torch.nan
    before = snapshot(model, batches)
    with pytest.raises(ek.ProblemError, match="NaN"):
        entry(ek.Problem(model, batches, ek.Gaussian()))
    assert snapshot(model, batches) == before


def test_gradients_that_nobody_reads_to_the_end() -> None:
    model, loader = everything(), DataLoader(Noisy(), batch_size=3, shuffle=True)
    before = snapshot(model)
    chunks = ek.per_sample_gradients(ek.Problem(model, loader, ek.Gaussian()))
    next(chunks)
    assert snapshot(model) == before
    chunks.close()
    assert snapshot(model) == before


def test_the_snapshot_sees_every_change() -> None:
    def everything_that_could_change(model: nn.Module, batches: Batches) -> dict[str, Any]:
        first = model.first
        return {
            "torch rng": lambda: torch.rand(()),
            "numpy rng": lambda: np.random.uniform(),
            "python rng": lambda: random.random(),
            "value": lambda: first.weight.data.mul_(2),
            "grad": lambda: first.weight.grad.add_(1),
            "new grad": lambda: setattr(first.bias, "grad", torch.zeros(4)),
            "flag": lambda: first.train(),
            "requires_grad": lambda: first.bias.requires_grad_(False),
            "buffer": lambda: model.calls.add_(1),
            "statistics": lambda: model.norm.running_mean.add_(1),
            "hook": lambda: first.register_forward_hook(lambda *args: None),
            "lost hook": lambda: model.head._forward_hooks.clear(),
            "parameter hook": lambda: first.bias.register_hook(lambda gradient: None),
            "attribute": lambda: setattr(model, "cached", torch.zeros(())),
            "plain tensor": lambda: first.__dict__.__setitem__("weight", first.weight.data),
            "module": lambda: setattr(model, "head", nn.Linear(4, 2)),
            "input": lambda: batches[0][0].add_(1),
            "input requires grad": lambda: batches[1][0].requires_grad_(),
        }

    for name in everything_that_could_change(everything(), data()):
        model, batches = everything(), data()
        before = snapshot(model, batches)
        assert snapshot(model, batches) == before
        everything_that_could_change(model, batches)[name]()
        assert snapshot(model, batches) != before, name


def test_a_copy_has_empty_containers_of_its_own() -> None:
    """One that two modules hold is one in the copy, too."""
    model, shared = nn.Sequential(nn.Linear(2, 2), nn.ReLU()), OrderedDict[str, int]()
    model[0].kept, model[1].kept = shared, shared
    copied = deep_copy(model)
    copied[0].register_forward_hook(lambda *_: None)
    copied[0].kept["a"] = 1
    assert copied[1].kept == {"a": 1}
    assert not model[0]._forward_hooks
    assert not shared


def test_what_threads_change_in_torch_is_put_back() -> None:
    """The second comes in while the first is inside, if it is let, and leaves after it."""
    first_is_in, second_is_in, first_is_out = Event(), Event(), Event()

    def torchs() -> list[Any]:
        fused = torch.backends.mha.get_fastpath_enabled()
        return [torch.batch_norm, torch.instance_norm, fused, *vars(CheckpointFunction)]

    def first(x: Tensor) -> Tensor:
        first_is_in.set()
        second_is_in.wait(0.5)
        return x

    def second(x: Tensor) -> Tensor:
        second_is_in.set()
        first_is_out.wait(0.5)
        return x

    before = torchs()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(call, first, torch.ones(1)).add_done_callback(lambda done: first_is_out.set())
        first_is_in.wait(5)
        pool.submit(call, second, torch.ones(1)).result()
    assert torchs() == before
