"""No wiring gives a silent wrong number: a, g and G are held to the gradient by plain autograd."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.model import gradients
from ekfac_ref.model.batched import forward_pass
from ekfac_ref.model.recording import recorder, uses
from ekfac_ref.model.refusals import wiring
from ekfac_ref.optim import EKFAC
from studies.speed.curves import Size, case
from tests.independent.kinds import KINDS
from tests.support.agreement import problem_of

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
TAPPED = {"kfac": ek.kfac, "ekfac": ek.ekfac}


class Twice(nn.Module):
    """Sequences of three, a layer that is called twice, as many samples as columns."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(3, 3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inner(x))
        return self.head(torch.tanh(self.inner(h)) + h).sum(1)


def problem(dtype: torch.dtype = torch.float64, model: nn.Module | None = None) -> ek.Problem:
    x, y = torch.randn(4, 3, 3, dtype=dtype), torch.randn(4, 4, dtype=dtype)
    return ek.Problem((model or Twice()).to(dtype).eval(), [(x, y)], ek.Gaussian())


def shifted_by(factor: float) -> Callable[[pytest.MonkeyPatch], None]:
    """The zero that is added counts for so much."""

    def break_it(monkeypatch: pytest.MonkeyPatch) -> None:
        class Shifting(recorder.Recorder):
            def __init__(self, layers: Any, shift: recorder.Shift, at_once: bool) -> None:
                super().__init__(layers, lambda n, k, y: y + factor * (shift(n, k, y) - y), at_once)

        monkeypatch.setattr(forward_pass, "Recorder", Shifting)

    return break_it


def gradients_as(change: Callable[[Tensor], Tensor]) -> Callable[[pytest.MonkeyPatch], None]:
    """What comes back, [N, C, T, d_out], is changed."""

    def break_it(monkeypatch: pytest.MonkeyPatch) -> None:
        right = forward_pass.ForwardPass.gradients
        monkeypatch.setattr(forward_pass.ForwardPass, "gradients", lambda *a: change(right(*a)))

    return break_it


def inputs_as(change: Callable[[Tensor], Tensor]) -> Callable[[pytest.MonkeyPatch], None]:
    """What goes in, [T, groups, d_in], is changed."""

    def break_it(monkeypatch: pytest.MonkeyPatch) -> None:
        right = recorder._with_homogeneous
        monkeypatch.setattr(recorder, "_with_homogeneous", lambda *a: change(right(*a)))

    return break_it


def second_use_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(recorder.Recorder):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            every = self._holders.among
            self._holders.among = lambda *a: (x for x in every(*a) if not self.uses[x.name])

    for module in (forward_pass, uses):
        monkeypatch.setattr(module, "Recorder", Blind)


MISTAKES = {
    "the shift twice": shifted_by(2),
    "the shift halved": shifted_by(0.5),
    "no shift": shifted_by(0),
    "the sign": shifted_by(-1),
    "another sample's gradient": gradients_as(lambda g: g.roll(1, 0)),
    "samples and columns exchanged": gradients_as(
        lambda g: g.transpose(0, 1) if len(g) == g.shape[1] else g
    ),
    "another column's gradient": gradients_as(lambda g: g.roll(1, 1)),
    "another position's gradient": gradients_as(lambda g: g.roll(1, -2)),
    "one sample's gradient left out": gradients_as(lambda g: torch.cat([0 * g[:1], g[1:]])),
    "one position's gradient left out": gradients_as(
        lambda g: torch.cat([0 * g[..., :1, :], g[..., 1:, :]], -2)
    ),
    "inputs doubled": inputs_as(lambda a: 2 * a),
    "coordinates exchanged": inputs_as(lambda a: a.roll(1, -1)),
    "another position's input": inputs_as(lambda a: a.roll(1, 0)),
    "the bias forgotten": inputs_as(lambda a: torch.cat([a[..., :-1], 0 * a[..., -1:]], -1)),
    "the second use unseen": second_use_unseen,
}


NOTICED = r"layer '.*differ from those of autograd|samples are run one after another"


@DTYPES
@pytest.mark.parametrize("entry", TAPPED.values(), ids=TAPPED)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_taps_is_noticed(
    mistake: str, entry: Callable[..., Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And refused, or else run again sample by sample, where the mistake cannot be."""
    MISTAKES[mistake](monkeypatch)
    with pytest.raises((ek.ProblemError, UserWarning), match=NOTICED):
        entry(problem(dtype))


@dataclass
class Then:
    """Batches, and what happens before the last one."""

    batches: list[Any]
    happens: Callable[[], None]

    def __iter__(self) -> Iterator[Any]:
        yield from self.batches[:-1]
        self.happens()
        yield self.batches[-1]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_later_batch_is_noticed(
    mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a backward pass alone: of its form, one was held to a forward pass of its own."""
    first, later = problem(), problem()
    batches = Then([*first.batches, *later.batches], lambda: MISTAKES[mistake](monkeypatch))
    with pytest.raises((ek.ProblemError, UserWarning), match=NOTICED):
        ek.kfac(replace(first, batches=batches))


def test_a_recorder_that_changes_the_network_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it sees fits together; a forward pass without it does not."""

    class Another(recorder.Recorder):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            result = super().__torch_function__(func, types, args, kwargs)
            return 2 * result if func is torch.tanh else result

    monkeypatch.setattr(forward_pass, "Recorder", Another)
    with pytest.raises((ek.ProblemError, UserWarning), match=NOTICED):
        ek.kfac(problem())


class OnlyOnce(torch.autograd.Function):
    """A hyperbolic tangent that throws away what its backward needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.slopes = [1 - torch.tanh(x).square()]
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.slopes.pop()


def test_a_backward_that_works_only_once() -> None:
    """Another forward pass is taken for the comparison then."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(OnlyOnce.apply(self.first(x)))

    model = Model().double()
    batches = [(torch.randn(3, 3).double(), torch.randn(3, 1).double()) for _ in range(3)]
    found = ek.kfac(ek.Problem(model, batches, ek.Gaussian()))
    plain = nn.Sequential(model.first, nn.Tanh(), model.second)
    expected = ek.kfac(ek.Problem(plain, batches, ek.Gaussian()))
    torch.testing.assert_close(found["first"].B, expected["0"].B)


def test_a_thousandth_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shifted_by(1.001)(monkeypatch)
    for dtype in (torch.float64, torch.float32):
        with pytest.raises(ek.ProblemError, match=r"0.0013? of their size"):
            ek.kfac(problem(dtype, nn.Sequential(nn.Flatten(), nn.Linear(9, 4))))


@DTYPES
def test_a_mistake_in_the_gradients_is_noticed(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gradients.with_parameters
    doubled = lambda model, values: right(model, {n: 2 * v for n, v in values.items()})  # noqa: E731
    monkeypatch.setattr(gradients, "with_parameters", doubled)
    # Linear, so that every gradient doubles: a tanh would hide that from bfloat16's wide limit.
    linear = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Linear(4, 4))
    for entry in (ek.exact_fisher, ek.full_fisher, lambda p: list(ek.per_sample_gradients(p))):
        with pytest.raises(ek.ProblemError, match="differ from those of autograd"):
            entry(problem(dtype, linear))


def test_every_batch_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the optimizers' too; a mistake in the last batch alone is noticed."""
    one = problem()
    x, y = torch.randn(6, 3, 3).double(), torch.randn(6, 4).double()
    several = ek.Problem(one.model, [(x[:4], y[:4]), (x[4:], y[4:])], ek.Gaussian())
    gradients_as(lambda g: g if len(g) == 4 else 2 * g)(monkeypatch)
    ek.kfac(one)
    optimizer = EKFAC(one.model, ek.Gaussian(), lr=0.1, damping=0.1, momentum=0.0, kl_clip=None)
    optimizer.update(x[:4], y[:4])
    with pytest.raises(ek.ProblemError, match="differ from those of autograd"):
        ek.kfac(several)
    with pytest.raises(ek.ProblemError, match="differ from those of autograd"):
        optimizer.update(x[4:], y[4:])


class Around(nn.Module):
    """A network of two layers in a model that uses it in its own way."""

    def __init__(self, run: Callable[["Around", Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.run = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 4)), run
        self.alias: Any = [self.net[2].weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x.sum(1))


ELSEWHERE: list[nn.Module] = []  # a model under a global name
WIRINGS: dict[str, Callable[[Around, Tensor], Tensor]] = {
    "a list": lambda m, x: m.net(x) + F.linear(torch.tanh(m.net[0](x)), m.alias[0]),
    "another object's model": lambda m, x: m.net(x) + ELSEWHERE[0].net(x),
    "data": lambda m, x: m.net(x) + F.linear(m.net[0](x), m.net[2].weight.data),
    "detached": lambda m, x: m.net(x) + F.linear(m.net[0](x), m.net[2].weight.detach()),
    "a view": lambda m, x: m.net(x) + F.linear(m.net[0](x), m.net[2].weight.view(4, 3)),
    "a slice": lambda m, x: m.net(x) + F.linear(x, m.net[0].weight[:1]),
    "its own functional_call": lambda m, x: torch.func.functional_call(
        m.net, {n: 1 * p for n, p in m.net.named_parameters()}, (x,)
    ),
    "functional_call as it is": lambda m, x: torch.func.functional_call(
        m.net, dict(m.net.named_parameters()), (x,)
    ),
    "a hook on the output": lambda m, x: doubled_backwards(m.net(x)),
    "features in another order": lambda m, x: m.net(x.flip(-1)),
}


# gradients know of all other uses
REFUSED = {
    ek.exact_fisher: {"a list", "another object's model"},
    ek.ekfac: {"another object's model", "a slice", "its own functional_call"},
}


def doubled_backwards(f: Tensor) -> Tensor:
    if f.requires_grad:
        f.register_hook(lambda g: 2 * g)
    return f


def by_a_loop(question: ek.Problem) -> dict[str, Tensor]:
    """F of every Linear of the caller's own model, from one backward pass per sample and output."""
    ((x, _),) = question.batches
    F_of = {n: m for n, m in question.model.named_modules() if isinstance(m, nn.Linear)}
    sums: dict[str, Any] = dict.fromkeys(F_of, 0)
    for n in range(len(x)):
        for f in question.model(x[n : n + 1]).flatten():
            for name, layer in F_of.items():
                found = torch.autograd.grad(f, [layer.weight, layer.bias], retain_graph=True)
                G = torch.cat([found[0], found[1][:, None]], 1).flatten()
                sums[name] = sums[name] + torch.outer(G, G) / len(x)
    return sums


@pytest.mark.parametrize("name", WIRINGS)
def test_any_wiring_is_right_or_refused(name: str) -> None:
    """Where a plain loop and the package differ, the package says so."""
    question = problem(model=Around(WIRINGS[name]))
    ELSEWHERE[:] = [question.model]
    for entry in (ek.exact_fisher, ek.ekfac):
        if name in REFUSED[entry]:
            with pytest.raises(ek.ProblemError, match=r"net\..*; "):
                entry(question)
        else:
            found = entry(question)
            for layer, F_l in by_a_loop(question).items():
                torch.testing.assert_close(found[layer].trace(), F_l.trace())


def kinked(value: float = 0.5) -> nn.Module:
    """ReLU and maxima with ties everywhere: all weights equal, inputs of three values."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 2), nn.ReLU()
    ).append(nn.Flatten())
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    nn.init.zeros_(model[0].bias)
    return model


def deep(layers: int) -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 16))
    for _ in range(layers):
        model.append(nn.ReLU()).append(nn.Linear(16, 16))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.35)
    return model


def amplifying() -> nn.Module:
    """Rounding grows a millionfold: what LayerNorm makes of numbers that are nearly equal."""
    return nn.Sequential(nn.Linear(5, 8), Nearly(), nn.LayerNorm(8, 1e-12, False), nn.Linear(8, 3))


class Nearly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 + 1e-3 * x


class InItsDtype(nn.Module):
    """Insists on float32 inside, so that nothing can be repeated in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.float())


class Attention(nn.Module):
    """Nothing depends on the bias of the keys; of one position, nothing on keys and queries."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(5, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)).mean(1)


class TwoThatCancel(nn.Module):
    """One position of a sample takes away what the other gives."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.net(x) * x.new_tensor([1.0, -1, 1, -1])[:, None]).sum(1)


def pixels() -> Tensor:
    return torch.randint(-1, 2, (8, 1, 6, 6)).float()


RIGHT: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "ties": (kinked, pixels),
    "more ties": (lambda: kinked(-0.5), pixels),
    "deep": (lambda: deep(20), lambda: torch.randn(30, 5)),
    "amplifying": (amplifying, lambda: torch.randn(9, 5)),
    "attention": (Attention, lambda: torch.randn(6, 4, 5)),
    "attention to one": (Attention, lambda: torch.randn(6, 1, 5)),
    "cancelling": (TwoThatCancel, lambda: torch.randn(6, 1, 5).expand(6, 4, 5)),
    "one dtype": (InItsDtype, lambda: torch.randn(30, 5)),
}


@DTYPES
@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical()], ids=["exact", "empirical"])
def test_a_right_wiring_is_never_refused(name: str, dtype: torch.dtype, fisher: Any) -> None:
    build, inputs = RIGHT[name]
    dtype = torch.float32 if name == "one dtype" else dtype
    for seed in range(2):
        torch.manual_seed(seed)
        model, x = build().to(dtype).eval(), inputs().to(dtype)
        y = torch.randn(model(x).shape, dtype=dtype)
        for entry in (ek.exact_fisher, ek.kfac):
            entry(ek.Problem(model, [(x, y)], ek.Gaussian(), fisher=fisher))


@pytest.mark.parametrize("name", ["one dtype", "deep"])
def test_what_looks_wrong_is_computed_once_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kink that falls to the other side is no mistake; a mistake is one at other places too."""
    build, inputs = RIGHT[name]
    model, x = build(), inputs()
    question = ek.Problem(model, [(x, model(x).detach())], ek.Gaussian())
    looked, right = [], wiring._sides

    def sides(session: Any, *rest: Any) -> Any:
        looked.append(session.problem.dtype)
        found = right(session, *rest)
        wrong = {name: replace(s, size=(0.0, 0.0)) for name, s in found.items()}
        return wrong if len(looked) == 1 else found

    monkeypatch.setattr(wiring, "_sides", sides)
    ek.kfac(question)
    assert len(looked) > 1
    looked.clear()
    gradients_as(lambda g: 2 * g)(monkeypatch)
    with pytest.raises(ek.ProblemError, match="differ from those of autograd"):
        ek.kfac(question)


class MeanOverPositions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


@pytest.mark.parametrize(("positions", "again"), [(8192, False), (2, True)])
def test_long_sums_may_be_off_by_more(
    positions: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand roundings are nothing in a sum of 262,144 terms, and something in one of 64."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), MeanOverPositions(), nn.Linear(3, 3))
    batch = torch.randn(32, positions, 4), torch.randint(3, (32,))
    asked = []

    def sides(session: Any, batch: Any, seen: Any) -> dict[str, Any]:
        return {"0": SimpleNamespace(off=1000 * seen.roundoff), "3": SimpleNamespace(off=0.0)}

    class Agreeing:
        def agree(self, name: str) -> bool:
            asked.append(name)
            return True

    monkeypatch.setattr(wiring, "_sides", sides)
    monkeypatch.setattr(wiring, "_places", lambda *arguments: [Agreeing()])
    ek.kfac(ek.Problem(model, [batch], ek.Categorical(), ek.Empirical()))
    assert bool(asked) is again


def test_every_kind_of_layer_is_far_from_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 no second look is needed: rounding is rounding."""
    monkeypatch.setattr(wiring, "_places", lambda *a: pytest.fail("two sides differ"))
    for kind in KINDS.values():
        ek.kfac(problem_of(kind()))


def test_a_long_sum_in_float32_is_far_from_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of terms that do not cancel, over the positions of each sample."""
    monkeypatch.setattr(wiring, "_places", lambda *a: pytest.fail("two sides differ"))
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), MeanOverPositions(), nn.Linear(8, 3))
    batch = torch.rand(128, 256, 8), torch.randint(3, (128,))
    ek.kfac(ek.Problem(model, [batch], ek.Categorical(), ek.Empirical()))


def test_the_smallest_and_the_largest_numbers_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Squares that overflow or vanish hide no mistake and make none."""
    for size in (1e-160, 1e160):
        x, y = size * torch.randn(4, 3).double(), torch.randn(4, 2).double()
        question = ek.Problem(nn.Linear(3, 2, bias=False).double(), [(x, y)], ek.Gaussian())
        ek.exact_fisher(question)
        ek.kfac(question)
        with monkeypatch.context() as patched:
            gradients_as(lambda g: 2 * g)(patched)
            with pytest.raises(ek.ProblemError, match="differ from those of autograd by"):
                ek.kfac(question)


def keys_that_cancel(seed: int) -> ek.Problem:
    """The bias of attention's keys moves nothing: its gradient is rounding alone."""
    torch.manual_seed(seed)
    layers = [nn.Linear(2, 2) for _ in range(4)]
    model = nn.Sequential(ct.networks.SelfAttention(*layers), nn.Tanh()).double()
    return ek.Problem(
        model, [(torch.randn(1, 2, 2).double(), torch.randn(1, 2, 2).double())], ek.Gaussian()
    )


@pytest.mark.parametrize(("places", "refuses"), [((1,), True), (wiring.PLACES, False)])
def test_rounding_that_is_none_by_chance_is_no_measure(
    places: tuple[int, ...], refuses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one sample of two tokens, float32 may have no rounding in that gradient at all."""
    _Place = wiring._Place
    monkeypatch.setattr(wiring, "PLACES", places)
    asked = []

    def place(exact: Any, replay: Any, roundings: float, share: float) -> Any:
        asked.append(share)
        # By chance, rounding moves nothing at the first of them.
        return _Place(exact, exact if len(asked) < 3 else replay, roundings, share)

    monkeypatch.setattr(wiring, "_Place", place)
    refused = 0
    for seed in range(8):
        asked.clear()
        try:
            ek.exact_fisher(keys_that_cancel(seed))
        except ek.ProblemError:
            refused += 1
    assert (refused > 0) == refuses


def test_what_a_deep_network_rounds_is_not_computed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of terms is by lengths of rows: one product with each may be small throughout."""
    monkeypatch.setattr(wiring, "_places", lambda *_: pytest.fail("both sides are taken anew"))
    problem = case(Size(depth=16)).problem
    ek.kfac(problem)
