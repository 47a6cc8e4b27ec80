"""Exact() with more columns than fit at once: in several runs, the same matrices."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import blocks
from ekfac_ref.model import session, sizes, tapped
from ekfac_ref.optim import EKFAC
from tests.support.memory import megabytes_of, where_it_is_in_kilobytes
from tests.support.one_by_one import close


class Network(nn.Module):
    """Words in, an output for each of several positions out."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(6, 3), nn.Linear(3, 4), nn.Linear(4, 5)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(self.table(words)).cumsum(1)))


CASES: dict[str, tuple[Any, Any]] = {
    "gaussian": (ek.Gaussian(), lambda f: torch.randn_like(f)),
    "categorical": (ek.Categorical(), lambda f: torch.randint(5, f.shape[:2])),
    "ignored": (ek.Categorical(), lambda f: torch.tensor([[1, -100]]).expand(f.shape[:2])),
    "bernoulli": (ek.Bernoulli(), lambda f: torch.rand_like(f)),
    "poisson": (ek.Poisson(), lambda f: torch.poisson(torch.ones_like(f))),
}


def question(name: str, **choices: Any) -> ek.Problem:
    likelihood, labels = CASES[name]
    model = Network().double()
    lengths = (2, 2) if name == "ignored" else (2, 4)
    words = [torch.randint(6, (n, T)) for n, T in zip((2, 3), lengths, strict=True)]
    return ek.Problem(model, [(x, labels(model(x).detach())) for x in words], likelihood, **choices)


def in_runs(monkeypatch: pytest.MonkeyPatch, budget: int = 1) -> list[int]:
    """From now on, as if hardly anything fitted; how many columns were asked for each time."""
    asked: list[int] = []
    right = ek.Exact.some_columns

    def seen(self: ek.Exact, likelihood: Any, f: Tensor, y: Tensor, some: range) -> Tensor:
        asked.append(len(some))
        return right(self, likelihood, f, y, some)

    monkeypatch.setattr(ek.Exact, "some_columns", seen)
    for module in (session, sizes):
        monkeypatch.setattr(module, "FEW_COLUMNS", 0)
    for module in (tapped, blocks):
        monkeypatch.setattr(module, "CHUNK_BYTES", budget)
    return asked


@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()], ids=["expand", "reduce"])
@pytest.mark.parametrize("name", CASES)
def test_the_matrices_are_those_of_all_columns_together(
    name: str, sharing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some samples have fewer columns, and so fewer runs, than others."""
    asked = question(name, sharing=sharing)
    K, F = ek.kfac(asked), ek.exact_fisher(asked)
    E = ek.ekfac(asked)
    with monkeypatch.context() as patched:
        seen = in_runs(patched, budget=5_000)
        found, squares = ek.kfac(asked), ek.ekfac(asked)
    assert 0 < max(seen) < 10
    for layer in K:
        close(found[layer].A, K[layer].A, 1e-12)
        close(found[layer].B, K[layer].B, 1e-12)
        close(squares[layer].trace(), F[layer].trace(), 1e-12)
        close(E[layer].trace(), F[layer].trace(), 1e-12)


@pytest.mark.parametrize("name", ["gaussian", "ignored"])
def test_the_exact_fisher_is_that_of_all_columns_together(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = question(name)
    F, whole = ek.exact_fisher(asked), ek.full_fisher(asked)
    seen = in_runs(monkeypatch, budget=8_000)
    for layer, block in ek.exact_fisher(asked).items():
        close(block.matrix, F[layer].matrix, 1e-12)
    assert 0 < max(seen) < 10
    close(ek.full_fisher(asked).matrix, whole.matrix, 1e-12)


@pytest.mark.parametrize("some", [range(3), range(2, 7), range(9, 10)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_columns_alone_are_those_of_all(name: str, some: range) -> None:
    likelihood, labels = CASES[name]
    f = torch.randn(3, 2, 5).double()
    y = labels(f)
    S = likelihood.square_root(f, y)
    assert S.shape == (3, 10, 2, 5)
    assert torch.equal(likelihood.square_root(f, y, some), S[:, some.start : some.stop])


def test_classes_on_axis_one() -> None:
    f, y = torch.randn(3, 5, 2).double(), torch.randint(5, (3, 2))
    likelihood = ek.Categorical(class_axis=1)
    S = likelihood.square_root(f, y)
    assert torch.equal(likelihood.square_root(f, y, range(4, 8)), S[:, 4:8])


@pytest.mark.parametrize("samples", [1, 2])
def test_optimizers_take_them_in_runs(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample is not done with its first run."""
    asked = question("categorical")
    ((x, y), _) = asked.batches
    x, y = x[:samples], y[:samples]
    settings = {"lr": 0.1, "damping": 0.1}
    whole, other = (EKFAC(asked.model, asked.likelihood, **settings) for _ in range(2))
    whole.update(x, y)
    seen = in_runs(monkeypatch)
    other.update(x, y)
    assert set(seen) == {1}
    for layer, E in whole.preconditioner.operators.items():
        close(other.preconditioner.operators[layer].trace(), E.trace(), 1e-12)


@pytest.mark.parametrize("entry", [ek.kfac, ek.exact_fisher])
def test_hopelessly_many_are_said_before(entry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (session, sizes):
        monkeypatch.setattr(module, "FEW_COLUMNS", 0)
    monkeypatch.setattr(session, "MANY_COLUMNS", 9)
    asked = question("categorical")
    with pytest.warns(UserWarning, match=r"each of 10 outputs .*Sampled\(draws\).*Empirical\(\)"):
        entry(asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fisher in (ek.Sampled(draws=2), ek.Empirical()):
            entry(ek.Problem(asked.model, asked.batches, asked.likelihood, fisher))


PREPARED = """
model = nn.Sequential(nn.Embedding(400, 8), nn.Tanh(), nn.Linear(8, 400))
x = torch.randint(400, (1, 20))
problem = ek.Problem(model, [(x, x)], ek.Categorical(), layers=("0",))
"""


@where_it_is_in_kilobytes
@pytest.mark.parametrize(("entry", "most"), [("kfac", 220), ("exact_fisher", 560)])
def test_memory_is_bounded_whatever_the_columns(entry: str, most: int) -> None:
    """S alone would have 8000 x 8000 numbers, 256 MB, and the gradients of the head as many."""
    assert megabytes_of(PREPARED, f"ek.{entry}(problem)") < most
