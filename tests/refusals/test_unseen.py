"""What no comparison of outputs shows: numbers that are drawn, steps, hooks, other data."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC
from tests.support.refusals import ENTRIES

entries = pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))


class Adapted(nn.Module):
    """Beside a frozen layer two more, whose output is zero as yet, behind a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(3, 2).requires_grad_(False)
        self.down, self.up = nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        kept = F.dropout(x, 0.5, self.training)
        return self.base(x) + self.up(self.down(kept))


class Drawing(nn.Module):
    """Draws from another generator, and has no use for it."""

    def __init__(self, draw: Callable[[], Any]) -> None:
        super().__init__()
        self.linear, self.draw = nn.Linear(3, 2), draw

    def forward(self, x: Tensor) -> Tensor:
        self.draw()
        return self.linear(x)


def asked(model: nn.Module, samples: int = 4, **choices: Any) -> ek.Problem:
    x, y = torch.randn(samples, 3).double(), torch.randint(2, (samples,))
    return ek.Problem(model.double(), [(x, y)], ek.Categorical(), fisher=ek.Empirical(), **choices)


@entries
@pytest.mark.filterwarnings("ignore:model. torch.vmap cannot run")
@pytest.mark.parametrize(
    "model",
    [
        Adapted,
        lambda: Drawing(lambda: torch.rand(())),
        lambda: Drawing(lambda: np.random.rand()),
    ],
    ids=["dropout before zeros", "torch", "numpy"],
)
def test_who_draws_in_train_mode_is_refused_whatever_comes_out(
    model: Callable[[], nn.Module], entry: Callable[[ek.Problem], Any]
) -> None:
    problem = asked(model())
    with pytest.raises(ek.ProblemError, match=r"draws random numbers .* call model.eval\(\)"):
        entry(problem)
    problem.model.eval()
    entry(problem)


@entries
def test_a_spectral_norm_takes_no_step(entry: Callable[[ek.Problem], Any]) -> None:
    """And what comes out is right: each sample's gradient by a copy that is as the model was."""
    model = nn.Sequential(spectral_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)  # so that a step would be one
    problem = asked(model, layers=("2",))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    entry(problem)
    EKFAC(model, ek.Categorical(), layers=("2",)).update(*problem.batches[0])
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_gradients_behind_a_spectral_norm() -> None:
    model = nn.Sequential(spectral_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter)
    problem = asked(model, layers=("2",))
    (G,) = ek.per_sample_gradients(problem)
    ((x, y),) = problem.batches
    for n in range(len(x)):
        one = copy.deepcopy(model)
        loss = F.cross_entropy(one(x[n : n + 1]), y[n : n + 1])
        (g,) = torch.autograd.grad(loss, [one.get_parameter("2.weight")])
        torch.testing.assert_close(G["2"][n, 0, :, :-1], g)


@entries
def test_hooks_on_gradients_are_told(entry: Callable[[ek.Problem], Any]) -> None:
    problem = asked(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    weight = problem.model.get_parameter("0.weight")
    handle = weight.register_hook(torch.zeros_like)
    with pytest.warns(UserWarning, match=r"^parameter '0.weight': its backward hook .* hook makes"):
        entry(problem)
    problem.model[1].register_full_backward_hook(lambda module, down, up: None)
    with pytest.warns(UserWarning, match=r"^layer '1': its backward hook .* so with 1 more"):
        entry(problem)
    handle.remove()
    problem.model[1]._backward_hooks.clear()
    entry(problem)  # a warning would be an error


class OwnOrder:
    """Other samples in every pass, by random numbers that nobody else knows of."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.drawn = x, y, np.random.default_rng(0)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.as_tensor(self.drawn.permutation(len(self.x)))
        return iter([(self.x[some], self.y[some]) for some in order.split(2)])


def test_other_data_in_the_second_pass_is_refused() -> None:
    x, y = torch.randn(6, 3).double(), torch.randint(2, (6,))
    model = nn.Sequential(nn.Linear(3, 2)).double()
    problem = ek.Problem(model, OwnOrder(x, y), ek.Categorical())
    with pytest.raises(ek.ProblemError, match=r"sample 0 a further pass has other data .* list"):
        ek.ekfac(problem)
    ek.exact_fisher(problem)  # in one pass
    ek.ekfac(ek.Problem(model, list(OwnOrder(x, y)), ek.Categorical()))


class OtherMemory:
    """The same samples in every pass, each time by rows or by columns, at an odd place."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.passes = x, y, 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.passes += 1
        x = self.x if self.passes % 2 else self.x.T.contiguous().T
        return iter([(x[1:4], self.y[1:4]), (x[4:], self.y[4:])])


def test_the_same_data_elsewhere_in_memory_is_the_same() -> None:
    """Sums of float64 would be others in another order; nine floats are no whole words."""
    model = nn.Sequential(nn.Linear(3, 2))
    for dtype in (torch.float32, torch.float64):
        data = OtherMemory(torch.randn(7, 3, dtype=dtype), torch.randint(2, (7,)))
        ek.ekfac(ek.Problem(model.to(dtype), data, ek.Categorical()))
        assert data.passes > 1


def test_a_mask_may_fail_in_any_way() -> None:
    with pytest.raises(ek.ProblemError, match=r"mask: it failed .*ZeroDivisionError"):
        ek.kfac(asked(nn.Linear(3, 2), mask=lambda x: 1 / 0))


class Forces(nn.Module):
    """The derivative of an energy, by autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.energy = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        energy = self.energy(torch.tanh(self.body(x))).sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0]


@pytest.mark.filterwarnings("ignore:model. torch.vmap cannot run")
def test_gradients_of_a_derivative() -> None:
    model = Forces().double()
    x, y = torch.randn(2, 4, 3).double()
    problem = ek.Problem(model, [(x, y)], ek.Gaussian(), fisher=ek.Empirical())
    (G,) = ek.per_sample_gradients(problem)
    F_exact = ek.exact_fisher(problem)["body"].trace()
    squares = torch.zeros(())
    for n in range(4):
        loss = 0.5 * (model(x[n : n + 1].clone()) - y[n]).square().sum()
        g = torch.autograd.grad(loss, [*model.body.parameters()], allow_unused=True)
        torch.testing.assert_close(G["body"][n, 0, :, :-1], g[0])
        squares = squares + sum(part.square().sum() for part in g if part is not None)
    torch.testing.assert_close(F_exact, squares / 4)


@pytest.mark.parametrize("entry", [ek.exact_fisher, ek.kfac, ek.ekfac])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_vector_in_another_dtype_is_refused(
    entry: Callable[[ek.Problem], Any], dtype: torch.dtype
) -> None:
    data = [(torch.randn(4, 3), torch.randint(2, (4,)))]
    block = entry(ek.Problem(nn.Sequential(nn.Linear(3, 2)), data, ek.Categorical()))["0"]
    V = torch.ones(2, 4, dtype=dtype)
    for ask in (block.matvec, lambda V: block.solve(V, damping=1.0)):
        with pytest.raises(ek.ProblemError, match=r"pass V.to\('cpu', torch.float32\)"):
            ask(V)
        ask(V.to("cpu", torch.float32))


class Capacity(nn.Module):
    """A second layer for the first four of a batch; all others go without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.expert, self.last = (nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(torch.cat([h[:4] + self.expert(h[:4]), h[4:]]))


class Centred(nn.Module):
    """The mean of the batch goes into a layer of zeros, so that no output shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        return self.last(h - h.mean(0))


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("entry", [ek.kfac, ek.ekfac])
@pytest.mark.parametrize("model", [Capacity, Centred])
def test_samples_that_mix_where_outputs_of_few_do_not_show_it(
    model: Callable[[], nn.Module], entry: Callable[[ek.Problem], Any]
) -> None:
    with pytest.raises(ek.ProblemError, match=r"change one another's outputs|depends on the other"):
        entry(asked(model(), samples=8))


class ByItsSize(nn.Module):
    """Another network for more than three samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(torch.tanh(h) if len(x) <= 3 else h)


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("entry", [ek.kfac, ek.ekfac])
def test_samples_that_only_a_larger_batch_changes(entry: Callable[[ek.Problem], Any]) -> None:
    with pytest.raises(ek.ProblemError, match="change one another's outputs"):
        entry(asked(ByItsSize(), samples=8))
    entry(asked(ByItsSize(), samples=3))
