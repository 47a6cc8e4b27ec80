"""What must not matter on a network: the cut into batches, the order, padding, the names."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import ekfac_ref as ek
from ekfac_ref.conformance.problems import changed as changes
from ekfac_ref.conformance.problems.families.rows import masked_tokens
from ekfac_ref.conformance.problems.strategies import Drawn, problems
from ekfac_ref.conformance.truth.observation import observe
from tests.support import laws
from tests.support.ask import answers, blocks, every_block
from tests.support.strategies import sharings

fishers = st.sampled_from([ek.Exact(), ek.Empirical()])


def assert_same(one: ek.Problem, other: ek.Problem) -> None:
    """Both problems have the same F, KFAC and, behind the gate, EKFAC, layer by layer."""
    for left, (F, K, E) in zip(answers(one), every_block(other), strict=True):
        laws.unchanged(left.F, F, left.seen)
        laws.unchanged(left.K, K, left.seen)
        laws.ekfac_unchanged(left.E, E, left.seen)


@given(problems(), fishers, sharings)
def test_uneven_batches(drawn: Drawn, fisher, sharing) -> None:
    problem = drawn.problem(fisher, sharing)
    assert_same(problem, changes.recut(problem))


@given(problems(), fishers, sharings, st.randoms(use_true_random=False))
def test_order_of_samples(drawn: Drawn, fisher, sharing, random) -> None:
    problem = drawn.problem(fisher, sharing)
    shuffled = list(changes.recut(problem).batches)
    random.shuffle(shuffled)
    assert_same(problem, replace(problem, batches=shuffled))


@given(problems(), fishers, sharings)
def test_duplicated_data(drawn: Drawn, fisher, sharing) -> None:
    problem = drawn.problem(fisher, sharing)
    assert_same(problem, changes.doubled(problem))


@given(problems(), sharings)
def test_exact_ignores_the_values_of_the_labels(drawn: Drawn, sharing) -> None:
    problem = drawn.problem(ek.Exact(), sharing)
    assert_same(problem, changes.other_labels(problem))


@given(problems((masked_tokens,)), fishers, sharings, st.sampled_from([-3.0, 0.5, 100.0]))
def test_masked_positions_may_hold_anything(drawn: Drawn, fisher, sharing, value) -> None:
    problem = drawn.problem(fisher, sharing)
    assert_same(
        problem, replace(problem, batches=[(_fill(x, value), y) for x, y in problem.batches])
    )


@given(problems((masked_tokens,)), fishers, sharings, st.integers(1, 3))
def test_masked_positions_may_be_appended(drawn: Drawn, fisher, sharing, more) -> None:
    problem = drawn.problem(fisher, sharing)
    assert_same(
        problem, replace(problem, batches=[(_longer(x, more), y) for x, y in problem.batches])
    )


def _fill(x: dict, value: float) -> dict:
    return {**x, "x": torch.where(x["mask"][..., None], x["x"], value)}


def _longer(x: dict, more: int) -> dict:
    n, _, d = x["x"].shape
    return {
        "x": torch.cat([x["x"], torch.full((n, more, d), 7.0).to(x["x"])], 1),
        "mask": torch.cat([x["mask"], torch.zeros(n, more, dtype=torch.bool)], 1),
    }


@pytest.mark.shapes
@given(problems(), fishers)
def test_full_fisher_holds_every_block(drawn: Drawn, fisher) -> None:
    """Diagonal blocks are the layers' own, off-diagonal ones mean outer products of two layers."""
    problem = drawn.problem(fisher)
    full, exact, seen = ek.full_fisher(problem), ek.exact_fisher(problem), observe(problem)
    for layer, groups in seen.items():
        block = full.block(layer, layer)
        start = 0
        for part, group in zip(blocks(exact[layer]), groups, strict=True):
            stop = start + len(part.dense())
            diagonal = ek.Dense(block[start:stop, start:stop], part.shape)
            laws.unchanged(part, diagonal, group)
            start = stop
    first, last = next(iter(seen)), list(seen)[-1]
    runs = list(ek.per_sample_gradients(problem))
    one, two = (torch.cat([run[name].flatten(2) for run in runs]) for name in (first, last))
    expected = torch.einsum("nci,ncj->ij", one, two) / len(one)
    torch.testing.assert_close(full.block(first, last), expected)
    torch.testing.assert_close(full.block(last, first), expected.T)


def test_uneven_lengths_between_batches() -> None:
    """T_n differs: A pools positions over the whole data, it does not average over batches."""
    generator = torch.Generator().manual_seed(0)
    long, short = (torch.randn(2, T, 3, generator=generator).double() for T in (5, 2))
    model = nn.Linear(3, 2).double()
    batches = [(long, torch.zeros(2, 5, 2).double()), (short, torch.zeros(2, 2, 2).double())]
    problem = ek.Problem(nn.Sequential(model), batches, ek.Gaussian())
    rows = torch.cat([long.flatten(0, 1), short.flatten(0, 1)])
    rows = torch.cat([rows, torch.ones(14, 1).double()], 1)
    torch.testing.assert_close(ek.kfac(problem)["0"].A, rows.T @ rows / 14)
    torch.testing.assert_close(ek.kfac(problem)["0"].B, torch.eye(2).double() * 14 / 4)


@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical(), ek.Sampled(draws=3, seed=5)])
def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch, fisher) -> None:
    """A memory budget of one sample at a time gives what one chunk gives, sampled labels too."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(5, 2, 6, 6, generator=generator).double(), torch.arange(5) % 3
    layers = (nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))
    problem = ek.Problem(nn.Sequential(*layers).double(), [(x, y)], ek.Categorical(), fisher=fisher)
    together = ek.exact_fisher(problem), ek.ekfac(problem)
    for module in ("blocks", "model.tapped"):
        monkeypatch.setattr(f"ekfac_ref.{module}.CHUNK_BYTES", 1)
    assert [len(run["0"]) for run in ek.per_sample_gradients(problem)] == [1] * 5
    for one, other in zip(together, (ek.exact_fisher(problem), ek.ekfac(problem)), strict=True):
        for name in one:
            torch.testing.assert_close(one[name].dense(), other[name].dense())


class Lookup(nn.Module):
    """A table whose rows are looked up by the functional op, with none of its options."""

    def __init__(self, table: nn.Embedding, head: nn.Linear) -> None:
        super().__init__()
        self.table, self.head = table, head

    def forward(self, words):
        return self.head(functional.embedding(words, self.table.weight).tanh().flatten(1))


def test_a_functional_lookup_is_an_embedding() -> None:
    table, head = nn.Embedding(5, 3).double(), nn.Linear(9, 2).double()
    data = [(torch.randint(5, (6, 3)), torch.randn(6, 2).double())]
    model = nn.Sequential(table, nn.Tanh(), nn.Flatten(), head)
    expected = ek.exact_fisher(ek.Problem(model, data, ek.Gaussian()))["0"].dense()
    found = ek.exact_fisher(ek.Problem(Lookup(table, head), data, ek.Gaussian()))["table"].dense()
    torch.testing.assert_close(found, expected)
