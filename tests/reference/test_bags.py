"""EmbeddingBag: a Linear without a bias, on the sum or the mean of one-hot rows."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

import ekfac_ref as ek

V, PADDING = 6, 2
Counts = Callable[[Tensor, Tensor], Tensor]  # [N, L, V] one-hot, [N, L] weights: [N, V]


class Behind(nn.Module):
    """A bag of words, or a Linear, and a layer behind it."""

    def __init__(self, bag: nn.Module, last: nn.Linear) -> None:
        super().__init__()
        self.bag, self.last = bag, last

    def forward(self, x: Tensor, weights: Tensor | None = None) -> Tensor:
        found = self.bag(x) if weights is None else self.bag(x, None, weights)
        return self.last(found.tanh())


BAGS: dict[str, tuple[dict[str, Any], bool, Counts]] = {
    "mean": ({}, False, lambda rows, w: rows.mean(1)),
    "sum": ({"mode": "sum"}, False, lambda rows, w: rows.sum(1)),
    "weighted": ({"mode": "sum"}, True, lambda rows, w: (w[..., None] * rows).sum(1)),
    "sum with padding": (
        {"mode": "sum", "padding_idx": PADDING},
        False,
        lambda rows, w: rows.sum(1) * (torch.arange(V) != PADDING),
    ),
    "mean with padding": (
        {"padding_idx": PADDING},
        False,
        lambda rows, w: (
            (kept := rows * (torch.arange(V) != PADDING)).sum(1) / kept.sum((1, 2))[:, None]
        ),
    ),
}


@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Empirical()], ids=["exact", "empirical"])
@pytest.mark.parametrize("name", BAGS)
def test_it_is_a_linear_layer(name: str, fisher: ek.Exact | ek.Empirical) -> None:
    options, weighted, counts = BAGS[name]
    bag, last = nn.EmbeddingBag(V, 3, **options).double(), nn.Linear(3, 2).double()
    words, weights = torch.randint(V, (5, 4)), torch.rand(5, 4).double()
    words[:, 0] = 1  # no bag of padding alone
    linear = nn.Linear(V, 3, bias=False).double()
    linear.weight.data = bag.weight.detach().T.clone()
    y, inputs = torch.randn(5, 2).double(), (words, weights) if weighted else words
    rows = counts(one_hot(words, V).double(), weights)
    own, plain = (
        ek.Problem(
            model,
            [(x[:3], y[:3]) if isinstance(x, Tensor) else (tuple(z[:3] for z in x), y[:3])],
            ek.Gaussian(),
            fisher,
        )
        for model, x in ((Behind(bag, last), inputs), (Behind(linear, last), rows))
    )
    for ask in (ek.kfac, ek.ekfac, ek.exact_fisher):
        found, expected = ask(own), ask(plain)
        assert {*found} == {"bag", "last"}
        for layer in found:
            torch.testing.assert_close(found[layer].dense(), expected[layer].dense())


def test_the_largest_of_a_bag_is_no_layer() -> None:
    model = Behind(nn.EmbeddingBag(V, 3, mode="max"), nn.Linear(3, 2)).double()
    words, y = torch.randint(V, (5, 4)), torch.randn(5, 2).double()
    problem = ek.Problem(model, [(words, y)], ek.Gaussian())
    with pytest.raises(ek.ProblemError, match=r"'bag.weight' .* no supported layer.*\('last',\)"):
        ek.kfac(problem)
    assert ek.exact_fisher(problem)["bag.weight"].shape == (1, 3 * V)


def test_a_vocabulary_without_a_matrix_on_it_is_refused() -> None:
    model = Behind(nn.EmbeddingBag(5000, 3), nn.Linear(3, 2))
    problem = ek.Problem(
        model, [(torch.randint(5000, (5, 4)), torch.randn(5, 2))], ek.Gaussian(), ek.Empirical()
    )
    with pytest.raises(ek.ProblemError, match=r"bags of 5000 words .* Embedding.*\('last',\)"):
        ek.kfac(problem)
    (gradients,) = ek.per_sample_gradients(problem)
    assert gradients["bag"].shape == (5, 1, 3, 5000)
