"""Wherever a model keeps its samples, the positions of each are its own, or each is run alone."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.model import taps
from ekfac_ref.model.batched import layout
from ekfac_ref.model.batched.sample_axis import Along, OnceForAll, readings
from ekfac_ref.model.session import Session
from ekfac_ref.question.batches import Batch
from tests.support.one_by_one import check

ALONE = "samples are run one after another"
T = 3


class Tokens(nn.Module):
    """Two layers on tokens and a table of positions, in any arrangement of samples."""

    def __init__(self, run: Callable[["Tokens", Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.table = nn.Linear(3, 4), nn.Linear(4, 2), nn.Embedding(T, 3)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)

    def layers(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def tokens(run: Callable[[Tokens, Tensor], Tensor], sizes: tuple[int, ...] = (3, 2)) -> ek.Problem:
    batches = [(torch.randn(n, T, 3).double(), torch.randn(n, 2).double()) for n in sizes]
    return ek.Problem(Tokens(run).double(), batches, ek.Gaussian())


def positions() -> Tensor:
    return torch.arange(T)


def folded(m: Tokens, x: Tensor) -> Tensor:
    rows = (x + m.table(positions()[None])).reshape(-1, 3)
    return m.layers(rows).reshape(len(x), T, 2).mean(1)


def folded_tokens_first(m: Tokens, x: Tensor) -> Tensor:
    rows = (x + m.table(positions())).transpose(0, 1).reshape(-1, 3)
    return m.layers(rows).reshape(T, len(x), 2).mean(0)


def tokens_first(m: Tokens, x: Tensor) -> Tensor:
    return m.layers(x.transpose(0, 1) + m.table(positions()[:, None])).mean(0)


def in_the_middle(m: Tokens, x: Tensor) -> Tensor:
    h = (x + m.table(positions())).transpose(0, 1)[:, :, None].expand(-1, -1, 2, -1)
    return m.layers(h).mean((0, 2))


def given_to_each(m: Tokens, x: Tensor) -> Tensor:
    return m.layers(x + m.table(positions().expand(len(x), -1))).mean(1)


def at_a_position_of_its_own(m: Tokens, x: Tensor) -> Tensor:
    """What the table returns has an axis of size 1, which is no place for the samples."""
    return m.layers(x[:, None] + m.table(positions()[None])).mean((1, 2))


def weighted(m: Tokens, x: Tensor) -> Tensor:
    """Some positions carry no gradient: only their inputs tell whose they are."""
    rows = (x + m.table(positions())).transpose(0, 1).reshape(-1, 3)
    return m.layers(rows).reshape(T, len(x), 2)[0]


BATCHED = {
    f.__name__: f
    for f in (
        *(folded, folded_tokens_first, tokens_first, in_the_middle, given_to_each, weighted),
        at_a_position_of_its_own,
    )
}


@pytest.mark.parametrize("sizes", [(3, 2), (1, 3), (4,), (1, 1, 5)], ids=str)
@pytest.mark.parametrize("name", BATCHED)
def test_samples_are_found_wherever_they_are(name: str, sizes: tuple[int, ...]) -> None:
    """As many samples as tokens among them. Nothing is run alone: a warning would be an error."""
    check(tokens(BATCHED[name], sizes))


def with_an_axis_of_its_own(m: Tokens, x: Tensor) -> Tensor:
    """There is no place for the samples in what the table returns."""
    return m.layers(x + m.table(positions())[None]).mean(1)


def backwards(m: Tokens, x: Tensor) -> Tensor:
    return m.layers((x + m.table(positions())).flip(0)).flip(0).mean(1)


def experts(m: Tokens, x: Tensor) -> Tensor:
    """Tokens go where they belong, so that a layer sees as many as the data says."""
    x = x + m.table(positions().expand(len(x), -1))
    y = torch.zeros(*x.shape[:2], 2, dtype=x.dtype)
    chosen = x[..., 0] > 0
    y[chosen] = m.layers(x[chosen])
    return y.mean(1)


@pytest.mark.filterwarnings("ignore:model. torch.vmap")
@pytest.mark.parametrize("run", [with_an_axis_of_its_own, backwards, experts])
def test_where_they_are_not_found_each_is_run_alone(
    run: Callable[[Tokens, Tensor], Tensor],
) -> None:
    with pytest.warns(UserWarning, match=ALONE):
        check(tokens(run, (4, 3)))


@pytest.mark.filterwarnings(f"ignore:.*{ALONE}", "ignore:model. torch.vmap")
def test_experts_with_equal_counts_on_the_first_batch_and_others_later() -> None:
    """What was proved there does not hold of the second batch, which says so itself."""
    question = tokens(experts, (3, 3, 3))
    first, second, third = (x for x, _ in question.batches)
    first[..., 0].abs_()  # every token goes to the layer
    check(question)
    second[0, 0, 0], third[:, 1, 0] = -9.0, -9.0
    check(question)


@pytest.mark.filterwarnings(f"ignore:.*{ALONE}", "ignore:model. torch.vmap")
def test_what_goes_elsewhere_at_equal_shapes_is_run_alone_in_every_pass() -> None:
    """Lambda's pass checks nothing, and must not believe in what the pass before did not."""

    def sorted_by_the_data(m: Tokens, x: Tensor) -> Tensor:
        rows = (x + m.table(positions().expand(len(x), -1))).flatten(0, 1)
        order = x[..., 0].flatten().argsort(stable=True)
        return m.layers(rows[order])[order.argsort()].unflatten(0, x.shape[:2]).mean(1)

    question = tokens(sorted_by_the_data, (3, 3))
    first, _ = question.batches[0]
    first[..., 0] = torch.arange(9.0).view(3, T)  # in order already
    check(question)


@pytest.mark.filterwarnings(f"ignore:.*{ALONE}", "ignore:model. torch.vmap")
def test_an_expert_that_the_first_sample_does_not_go_to() -> None:
    question = tokens(experts, (2, 3))
    question.batches[0][0][0, :, 0] = -9.0
    check(question)


def test_equal_samples_without_gradients_prove_nothing() -> None:
    """A later batch of the same form is what the layout is taken from."""

    def run(m: Tokens, x: Tensor) -> Tensor:
        rows = x.transpose(0, 1).reshape(-1, 3)
        h = m.layers(rows).reshape(T, len(x), 2).mean(0) + 0 * m.table(positions()).sum()
        return h * (x[:, 0, :1] > 0)

    question = tokens(run, (3, 3))
    question.batches[0][0][:] = -1.0
    question.batches[1][0].abs_()
    ek.kfac(ek.Problem(question.model, question.batches, ek.Gaussian(), layers=("first",)))


def test_rounding_that_a_network_amplifies_is_told_from_another_layout() -> None:
    """Together and alone differ in half of their digits; in float64 they do not."""

    def run(m: Tokens, x: Tensor) -> Tensor:
        rounding = 3000 * torch.finfo(x.dtype).eps * len(x)
        return m.layers((x + m.table(positions())) * (1 + rounding)).mean(1)

    question = tokens(run)
    batches = [(x.float(), y.float()) for x, y in question.batches]
    ek.ekfac(ek.Problem(question.model.float(), batches, ek.Gaussian()))


def test_a_relu_that_rounding_turns_is_no_other_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a thousand; nothing is asked again in float64."""

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 1000), nn.Linear(1000, 2)
            with torch.no_grad():
                self.first.weight[0], self.first.bias[0] = 0.0, 0.0

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x) + 1e-9 * (len(x) - 1)))

    monkeypatch.delattr(Session, "copied")
    x, y = torch.randn(3, 3), torch.randn(3, 2)
    ek.kfac(ek.Problem(Turned(), [(x, y)], ek.Gaussian(), layers=("first",)))


def test_nearly_is_by_sample() -> None:
    """Gradients of a small sample that are another's are no rounding, however large the others."""
    g = torch.randn(3, 1, 50, 4)
    g[1] *= 1e-4
    turned, other, scaled = g.clone(), g.clone(), 1.05 * g
    turned[:, 0, 0, 0] *= 1.1
    other[1] = other[1].roll(1, 1)
    unit = torch.finfo(g.dtype).eps
    assert layout._nearly(turned, g, unit)
    assert not layout._nearly(other, g, unit)
    assert not layout._nearly(scaled, g, unit)
    assert not layout._nearly(turned.double(), g.double(), unit)  # nothing rounds as coarsely


def test_a_mask_over_folded_positions() -> None:
    """Positions that do not count are none of A's rows; samples first and tokens first alike."""

    def silent(m: Tokens, x: Tensor) -> Tensor:
        counts = (x[..., 0] != 0)[..., None]
        y = m.layers(x.transpose(0, 1).reshape(-1, 3)).reshape(T, len(x), 2).transpose(0, 1)
        return (y * counts).sum(1) + 0 * m.table(positions()).sum()

    question = tokens(silent)
    for x, _ in question.batches:
        x[0, 1:] = 0
    masked = ek.Problem(
        question.model,
        question.batches,
        ek.Gaussian(),
        layers=("first",),
        mask=lambda x: x[..., 0] != 0,
    )
    rows = torch.cat([x[x[..., 0] != 0] for x, _ in question.batches])
    a = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
    torch.testing.assert_close(ek.kfac(masked)["first"].A, a.T @ a / len(a))


@pytest.mark.filterwarnings(f"ignore:.*{ALONE}")
def test_a_layer_that_is_called_once_more_on_some_batches() -> None:
    """And a mask, which says of every call which positions count."""

    def run(m: Tokens, x: Tensor) -> Tensor:
        y, again = m.first(x), x[:, 0, 0] > 0
        if bool(again.any()):
            y = y + m.first(2 * x) * again[:, None, None]
        return m.second(y[:, :2].sum(1)) + 0 * m.table(positions()).sum()

    question = tokens(run, (3, 3))
    (first, _), (second, _) = question.batches
    first[:, 0, 0], second[:, 0, 0] = 1.0, -1.0
    mask = (torch.arange(T) < 2).expand(3, T)
    masked = ek.Problem(
        question.model, question.batches, ek.Gaussian(), layers=("first",), mask=lambda x: mask
    )
    a = torch.cat([first, 2 * first, second])[:, :2].flatten(0, 1)
    a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
    torch.testing.assert_close(ek.kfac(masked)["first"].A, a.T @ a / len(a))


def test_inputs_are_kept_though_the_next_batch_overwrites_them() -> None:
    """In a tensor that the model keeps, which is no buffer."""

    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.rows = nn.Linear(9, 2, bias=False), torch.zeros(2, 9)

        def forward(self, x: Tensor) -> Tensor:
            self.rows[: len(x)] = x
            return self.linear(self.rows[: len(x)])

    x = torch.randn(4, 9)
    batches = [(x[:2], torch.zeros(2, 2)), (x[2:], torch.zeros(2, 2))]
    found = ek.kfac(ek.Problem(Kept(), batches, ek.Gaussian()))["linear"].A
    torch.testing.assert_close(found, x.T @ x / 4)


def test_shapes_leave_several_readings_open() -> None:
    assert readings((1, 5), (3, 5), 3) == (Along(0, 1),)
    assert readings((4,), (12,), 3) == (Along(0, 4), Along(0, 4, False))
    assert readings((1, 5), (1, 5), 3) == (OnceForAll(0), OnceForAll(None))
    assert readings((5,), (5,), 3) == (OnceForAll(None),)
    assert readings((4,), (11,), 3) == ()
    assert readings((1, 1), (3, 3), 3) == ()
    assert readings((1,), (1, 3), 3) == ()


def test_a_batch_is_run_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """One forward and one backward pass of it, and not one for each sample."""
    sizes = []
    see = taps._see
    monkeypatch.setattr(taps, "_see", lambda s, b, **how: sizes.append(b.size) or see(s, b, **how))
    ek.kfac(tokens(folded, (3, 2, 1)))
    assert sizes == [3, 2, 1]


def test_few_samples_are_different_ones_wherever_they_stand() -> None:
    """Three of them at most; and two equal ones, where there is nothing else."""
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    kind = torch.tensor([0, 0, 0, 0, 1, 0])
    y = torch.arange(6)
    for inputs, of, numbers, different in (
        (x, 6, [0, 2, 5], 3),
        ({"x": x, "kind": kind}, 6, [0, 2, 4], 3),
        (x, 4, [0, 2], 2),
        (x, 2, [0, 1], 1),
        (x, 1, [0], 1),
    ):
        few, found = Batch(inputs, y, None, 0).samples(0, of).few()
        assert (few.targets.tolist(), found) == (numbers, different)


def test_one_chunk_is_kept_for_the_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """And several are not, since memory is not to grow with their number."""
    sizes = []
    see = taps._see
    monkeypatch.setattr(taps, "_see", lambda s, b, **how: sizes.append(b.size) or see(s, b, **how))
    ek.ekfac(tokens(folded, (4,)))
    ek.ekfac(tokens(folded, (3, 2)))
    assert sizes == [4, *(3, 2), *(3, 2)]


class Windows(nn.Module):
    """Attention whose scores have a table's entries added, looked up once for all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 2)
        self.table = nn.Parameter(torch.randn(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        places = positions()[:, None] - positions() + T - 1
        bias = self.table[places.flatten()].view(T, T)
        return self.second(torch.softmax(self.first(x) @ x.mT + bias, -1) @ x).mean(1)


def test_what_keeps_samples_from_running_together_is_named() -> None:
    question = replace(tokens(folded), model=Windows().double())
    with pytest.warns(UserWarning, match=f"{ALONE}.* 'table' is used once for all samples"):
        ek.kfac(question)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(replace(question, layers=("first", "second")))


def test_no_layer_is_named_without_which_samples_run_alone_all_the_same() -> None:
    """A table is looked up once for all, but of how many positions a layer has, the data says."""

    def run(m: Tokens, x: Tensor) -> Tensor:
        h = x + m.table(positions()).view(T, 3)
        kept = h[..., 0] > 0
        y = h.new_zeros(*kept.shape, 4).index_put((kept,), m.first(h[kept]))
        return m.second(y).mean(1)

    with pytest.warns(UserWarning, match=f"{ALONE}.* Layers that are called on"):
        ek.kfac(tokens(run))
