"""Forwards that ``torch.vmap`` cannot run: the same numbers, by batches or sample by sample."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import ekfac_ref as ek
from tests.support.one_by_one import check

Forward = Callable[[nn.Module, Tensor], Tensor]


class Around(nn.Module):
    """A network, and any function of it and of its inputs."""

    def __init__(self, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.run = run
        self.register_buffer("last", torch.zeros(2), persistent=False)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.run(self.net, *inputs)


def question(run: Callable[..., Tensor], dtype: torch.dtype = torch.float64) -> ek.Problem:
    x, y = torch.randn(5, 3, dtype=dtype), torch.randn(5, 2, dtype=dtype)
    return ek.Problem(Around(run).to(dtype), [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian())


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * g


def saved(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        return net(x)


def either(net: nn.Module, x: Tensor) -> Tensor:
    """As the mask code of a language model: one path where nothing is padded, else another."""
    return net(x) if bool((x > 0).all()) else net(torch.where(x > 0, x, 0.1 * x))


def per_sample(net: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([net(x_n) if x_n[0] > 0 else 2 * net(x_n) for x_n in x])


def once_or_twice(net: nn.Module, x: Tensor) -> Tensor:
    return (net(x) + net(2 * x)) / 2 if torch.is_grad_enabled() else net(x)


def in_part(reentrant: bool) -> Forward:
    return lambda net, x: net[2](checkpoint(net[:2], x, use_reentrant=reentrant))


def at_the_end(reentrant: bool) -> Forward:
    return lambda net, x: checkpoint(net[2], net[:2](x), use_reentrant=reentrant)


def plain(net: nn.Module, x: Tensor) -> Tensor:
    return net(x)


BEYOND: dict[str, tuple[Forward, str | None]] = {
    "numpy": (lambda net, x: net(torch.as_tensor(np.tanh(x.numpy()))), "leaves torch"),
    "an autograd.Function": (lambda net, x: Square.apply(net(x)), "autograd.Function"),
    "values": (either, "data-dependent control flow|looks at values"),
    "saved tensors": (saved, "works on what autograd saves"),
    "checkpoint": (in_part(False), "recomputes activations"),
    "checkpoint at the end": (at_the_end(False), "recomputes activations"),
    "reentrant checkpoint": (in_part(True), None),
    "reentrant checkpoint at the end": (at_the_end(True), None),
    "more uses with gradients": (once_or_twice, None),
}


@pytest.mark.filterwarnings("ignore:model. torch.vmap cannot run")
@pytest.mark.parametrize("name", BEYOND)
def test_what_vmap_cannot_run_has_the_numbers_of_a_plain_loop(name: str) -> None:
    problem = question(BEYOND[name][0])
    same = Around(plain if "checkpoint" in name else problem.model.run)
    same.net = problem.model.net
    check(problem, replace(problem, model=same))


@pytest.mark.parametrize("name", BEYOND)
def test_a_loop_over_samples_is_announced_once_with_its_reason(name: str) -> None:
    run, reason = BEYOND[name]
    ek.kfac(question(run))  # a warning would be an error
    if reason is None:
        ek.exact_fisher(question(run))
    else:
        with pytest.warns(UserWarning, match=f"(?s){reason}.*one after another") as caught:
            ek.exact_fisher(question(run))
        assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_packed_sequences_in_the_forward() -> None:
    """A Linear on the rows of a packed batch, longest sample first: no axis counts the samples."""
    lengths = torch.tensor([4, 2, 3, 1])
    gru = nn.GRU(4, 4, batch_first=True).double().requires_grad_(False)

    def run(net: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
        rows = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        rows = rows._replace(data=torch.tanh(net[0](rows.data)))
        return net[2](gru(rows)[1][-1])

    x, y = torch.randn(4, 4, 3).double(), torch.randn(4, 2).double()
    problem = ek.Problem(Around(run).double(), [((x, lengths), y)], ek.Gaussian())
    with pytest.warns(UserWarning, match="one after another") as caught:
        check(problem)
    said = [str(w.message) for w in caught if "one after another" in str(w.message)]
    assert len(said) == 3  # gradients, kfac, ekfac


def in_bfloat16(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return net(x).float()


def test_autocast_is_judged_in_its_own_dtype() -> None:
    """The rounded inputs are what is multiplied; all else is float32."""
    problem = question(in_bfloat16, torch.float32)
    check(problem, rtol=0.02)
    rounded = ek.kfac(problem)["net.0"].A[:3, :3]
    x = torch.cat([x for x, _ in problem.batches]).bfloat16().float()
    torch.testing.assert_close(rounded, x.T @ x / 5)


def test_what_the_forward_overwrites_after_a_layer_has_seen_it_is_kept() -> None:
    """Under autocast the graph has a copy of its own, so autograd does not mind."""

    def run(net: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = x + 0
            f = net[2](torch.tanh(net[0](h)))
        h.zero_()
        return f.float()

    problem = question(run, torch.float32)
    x = torch.cat([x for x, _ in problem.batches]).bfloat16().float()
    torch.testing.assert_close(ek.kfac(problem)["net.0"].A[:3, :3], x.T @ x / 5)


def test_a_buffer_that_the_forward_writes_to_is_as_before() -> None:
    class KeepsTheLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)
            self.register_buffer("last", torch.zeros(2), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            f = self.linear(x)
            self.last.copy_(f[-1].detach())
            return f

    model = KeepsTheLast().double()
    x, y = torch.randn(5, 3).double(), torch.randn(5, 2).double()
    with pytest.warns(UserWarning, match="writes per-sample values"):
        list(ek.per_sample_gradients(ek.Problem(model, [(x, y)], ek.Gaussian())))
    ek.ekfac(ek.Problem(model, [(x, y)], ek.Gaussian()))
    assert not model.last.any()


def test_attention_with_a_trainable_bias() -> None:
    """T5's, which has no axis for samples: its use is every sample's, and each is run alone."""

    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(3, 4) for _ in range(3))
            self.distances = nn.Embedding(9, 1)

        def forward(self, x: Tensor) -> Tensor:
            T = x.shape[1]
            bias = self.distances(torch.arange(T)[:, None] - torch.arange(T) + 4)[None, ..., 0]
            q, k, v = self.q(x), self.k(x), self.v(x)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).mean(1)

    x, y = torch.randn(4, 5, 3).double(), torch.randn(4, 4).double()
    with pytest.warns(UserWarning, match="one after another"):
        check(ek.Problem(Biased().double(), [(x, y)], ek.Gaussian()))


def test_a_path_for_each_sample_is_followed_by_each() -> None:
    with pytest.warns(UserWarning, match="one after another"):
        check(question(per_sample))


@pytest.mark.parametrize("error", [ValueError, AssertionError, KeyError])
def test_a_forward_checks_shapes_and_dtypes_by_exceptions_of_any_kind(
    error: type[Exception],
) -> None:
    """As a BatchNorm2d does; a use that is read as one for all samples has an axis more."""

    def one(net: nn.Module, x: Tensor) -> Tensor:
        h = net[0](x)
        if h.dim() != 2 or h.dtype != torch.float32:
            raise error("not mine")
        f: Tensor = net[2](torch.tanh(h))
        return f

    def run(net: nn.Module, x: Tensor) -> Tensor:
        return torch.cat([one(net, x[n : n + 1]) for n in range(len(x))])

    with pytest.warns(UserWarning, match="one after another"):
        check(question(run, torch.float32), rtol=1e-5)


class ShiftedSoftmax(nn.Module):
    """All gradients of the shift cancel, so that both sides are computed at other places, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shift = nn.Linear(3, 4), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        assert not bool((x > 9).all())
        return (self.layer(x) + self.shift(x)).softmax(-1)


def test_what_is_computed_again_elsewhere_is_not_warned_of_again() -> None:
    x, y = torch.randn(5, 3), torch.randn(5, 4)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        list(ek.per_sample_gradients(ek.Problem(ShiftedSoftmax(), [(x, y)], ek.Gaussian())))
    assert len(said) == 1


class Distances(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.centres = p, nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(x, self.centres, self.p)


@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical(), ek.Sampled(3)])
@pytest.mark.parametrize("N", [2, 3])
@pytest.mark.parametrize(
    "between", [partial(nn.PReLU, 4), nn.PReLU, *(partial(Distances, p) for p in (1.0, 2.0, 3.0))]
)
def test_what_vmap_does_wrongly_is_done_by_other_ops(
    between: Callable[[], nn.Module], N: int, fisher: Any
) -> None:
    """Axes of samples and of columns mixed, for as many and for others."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), between(), nn.Linear(4, 2)).double()
    x, y = torch.randn(N, 3).double(), torch.randn(N, 2).double()
    (G,) = ek.per_sample_gradients(ek.Problem(model, [(x, y)], ek.Gaussian(), fisher=fisher))
    f = model(x)
    for n, S_n in enumerate(fisher.columns(ek.Gaussian(), f.detach(), y, 0)):
        for c, s in enumerate(S_n):
            weight = model[0].weight
            (g,) = torch.autograd.grad((f[n] * s).sum(), weight, retain_graph=True)
            torch.testing.assert_close(G["0"][n, c, :, :-1], g)


class NotRewritten(nn.Module):
    """A PReLU by the op that torch has beneath, whose gradient is batched wrongly, too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((4,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten.prelu(x, self.weight)
        return y


def test_gradients_of_a_wrong_shape_are_taken_sample_by_sample() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), NotRewritten(), nn.Linear(4, 2)).double()
    data = [(torch.randn(3, 3).double(), torch.randn(3, 2).double())]
    problem = ek.Problem(model, data, ek.Gaussian(), fisher=ek.Empirical())
    with pytest.warns(UserWarning, match="batches the gradient of an op wrongly"):
        (G,) = ek.per_sample_gradients(problem)
    model[1] = nn.PReLU(4).double()
    ((x, y),) = data
    for n in range(3):
        loss = ((model(x[n : n + 1]) - y[n : n + 1]) ** 2).sum() / 2
        (g,) = torch.autograd.grad(loss, model[0].weight)
        torch.testing.assert_close(G["0"][n, 0, :, :-1], g)
