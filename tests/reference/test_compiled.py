"""A compiled model is the model: every number as without ``torch.compile``, to the bit."""

import gc
import sys
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot
from ekfac_ref.model.copies.private_copy import copy_of
from ekfac_ref.optim import EKFAC, KFAC

X, Y = (torch.randn(5, k, generator=torch.Generator().manual_seed(k)).double() for k in (3, 2))
Compile = Callable[..., nn.Module]


class Around(nn.Module):
    """A network, called by any function of the model and its inputs."""

    def __init__(self, run: Callable[["Around", Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.run = network(), run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def whole(make: Compile) -> nn.Module:
    return make(network())


def twice(make: Compile) -> nn.Module:
    return make(nn.Sequential(make(network())))


def one_submodule(make: Compile) -> nn.Module:
    model = network()
    model[2] = make(model[2])
    return model


def in_place(make: Compile) -> nn.Module:
    model = network()
    model.compile(backend=make.keywords["backend"])
    model[0].compile(backend=make.keywords["backend"])
    return model


def a_function(make: Compile) -> nn.Module:
    return Around(make(lambda self, x: self.net(x)))


def a_method(make: Compile) -> nn.Module:
    model = Around(lambda self, x: self.called(x))
    model.called = make(model.net.forward)
    return model


def its_own_forward(make: Compile) -> nn.Module:
    model = network()
    model.forward = make(model.forward)
    return model


def a_decorated_forward(make: Compile) -> nn.Module:
    class Decorated(Around):
        forward = make(Around.forward)

    return Decorated(lambda self, x: self.net(x))


def a_closure(make: Compile) -> nn.Module:
    model = Around(lambda self, x: self.called(x))
    model.called = make(lambda x: model.net(x))
    return model


MODELS = (
    whole,
    twice,
    one_submodule,
    in_place,
    a_function,
    a_method,
    its_own_forward,
    a_decorated_forward,
    a_closure,
)
EVERY_MODEL = pytest.mark.parametrize("build", MODELS)


@cache
def plain_answers() -> dict[str, list[Tensor]]:
    return answers(network())


def answers(model: nn.Module) -> dict[str, list[Tensor]]:
    """Layer by layer, without the prefixes of compiled modules; gradients one after the other."""
    problem = ek.Problem(model, [(X[:2], Y[:2]), (X[2:], Y[2:])], ek.Gaussian())
    found: dict[str, list[Tensor]] = {
        entry.__name__: [block.dense() for block in entry(problem).values()]
        for entry in (ek.kfac, ek.ekfac, ek.exact_fisher)
    }
    found["gradients"] = [G for run in ek.per_sample_gradients(problem) for G in run.values()]
    for kind in (EKFAC, KFAC):
        optimizer = kind(model, ek.Gaussian(), lr=0.1, damping=0.1)
        optimizer.update(X, Y)
        found[kind.__name__] = [E.dense() for E in optimizer.preconditioner.operators.values()]
    return found


@EVERY_MODEL
@pytest.mark.parametrize(
    ("backend", "called_before"), [("eager", False), ("eager", True), ("aot_eager", True)]
)
def test_the_numbers_are_those_without_compiling(
    build: Callable[[Compile], nn.Module], backend: str, called_before: bool
) -> None:
    torch.compiler.reset()
    model = build(partial(torch.compile, backend=backend))
    if called_before:
        with torch.no_grad():  # with gradients dynamo warns of its own look at x.grad
            torch.testing.assert_close(model(X), network()(X))
    before = snapshot(model, [(X, Y)])
    found = answers(model)
    assert snapshot(model, [(X, Y)]) == before
    for name, plain in plain_answers().items():
        assert len(plain) == len(found[name]) > 0, name
        assert all(torch.equal(x, y) for x, y in zip(plain, found[name], strict=True)), name


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_trains_on(backend: str) -> None:
    """Between updates it runs compiled, and the steps are those of the plain one."""
    torch.compiler.reset()
    losses = []
    for model in (network(), torch.compile(network(), backend=backend)):
        optimizer = EKFAC(model, ek.Gaussian(), lr=0.1, damping=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.update(X, Y)
            optimizer.zero_grad()
            loss = (model(X) - Y).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.detach())
    torch.testing.assert_close(*losses)


def test_names_are_those_of_named_modules() -> None:
    model = torch.compile(network(), backend="eager")
    batches = [(X, Y)]
    assert list(ek.kfac(ek.Problem(model, batches, ek.Gaussian()))) == [
        "_orig_mod.0",
        "_orig_mod.2",
    ]
    problem = ek.Problem(model, batches, ek.Gaussian(), layers=("_orig_mod.2",))
    assert list(ek.ekfac(problem)) == ["_orig_mod.2"]
    with pytest.raises(ek.ProblemError, match=r"no module '2'; choose among .*'_orig_mod.2'"):
        ek.ekfac(ek.Problem(model, batches, ek.Gaussian(), layers=("2",)))


@pytest.mark.parametrize("build", [a_method, its_own_forward, a_closure, in_place])
def test_a_copy_has_nothing_compiled_on_it(build: Callable[[Compile], nn.Module]) -> None:
    copied = copy_of(build(partial(torch.compile, backend="eager")))
    for module in copied.modules():
        assert module._compiled_call_impl is None
        assert not any(hasattr(v, "_torchdynamo_orig_callable") for v in vars(module).values())


def test_no_reference_to_none_is_lost() -> None:
    """Python aborts when there is none left; from 3.12 on there always is."""
    problem = ek.Problem(network(), [(X, Y)], ek.Gaussian())
    torch.compile(problem.model, backend="eager")(X)  # torch._dynamo is there

    def lost(calls: int) -> int:
        gc.collect()  # what is garbage holds some
        before = sys.getrefcount(None)
        for _ in range(calls):
            ek.exact_fisher(problem)
        gc.collect()
        return before - sys.getrefcount(None)

    lost(2)
    assert lost(10) < 5
