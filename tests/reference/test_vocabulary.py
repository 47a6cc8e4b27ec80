"""An Embedding is a Linear on one-hot rows; those of a large vocabulary are never written out."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.matrix import basis, kfac
from ekfac_ref.matrix.ekfac import squares_from_gradients
from tests.support.memory import megabytes_of, where_it_is_in_kilobytes
from tests.support.one_by_one import close

V, D, N, T = 7, 3, 4, 5
WORDS = torch.tensor([[1, 1, 2, 0, 3], [2, 2, 2, 5, 0], [0, 0, 0, 0, 0], [3, 1, 3, 1, 3]])


@pytest.fixture
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven words are many."""
    for module in (kfac, basis):
        monkeypatch.setattr(module, "LARGE_VOCABULARY", 2)


class OneHotRows(nn.Linear):
    """An Embedding by multiplication; zero rows, and no gradient, where nothing is looked up."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__(table.num_embeddings, table.embedding_dim, bias=False)
        self.weight.data, self.padding = table.weight.data.T.clone(), table.padding_idx

    def forward(self, words: Tensor) -> Tensor:
        rows = (words[..., None] == torch.arange(self.in_features)).to(self.weight.dtype)
        if self.padding is None:
            return super().forward(rows)
        return super().forward(rows * (words != self.padding)[..., None])


class Reading(nn.Module):
    """Words in, in two tables' sum; a number for each of two outputs out."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.table, self.mix, self.head = first, nn.Linear(D, D), nn.Linear(D, 2)

    def forward(self, words: Tensor) -> Tensor:
        h = torch.tanh(self.mix(self.table(words)))
        return self.head((h * h.sum(1, keepdim=True)).sum(1))


def problems(words: Tensor = WORDS, **choices: Any) -> tuple[ek.Problem, ek.Problem]:
    """Of an Embedding, and of a Linear in its place; in two batches."""
    padding = choices.pop("padding_idx", None)
    model = Reading(nn.Embedding(V, D, padding_idx=padding)).double()
    if padding is not None:
        nn.init.zeros_(model.table.weight[padding].data)
    plain = Reading(OneHotRows(model.table)).double()
    plain.mix, plain.head = model.mix, model.head
    y = torch.randn(len(words), 2).double()
    batches = [(words[:3], y[:3]), (words[3:], y[3:])]
    choices = {"likelihood": ek.Gaussian()} | choices
    return ek.Problem(model, batches, **choices), ek.Problem(plain, batches, **choices)


CHOICES: dict[str, dict[str, Any]] = {
    "exact": {},
    "empirical": {"fisher": ek.Empirical()},
    "sampled": {"fisher": ek.Sampled(draws=2)},
    "padding": {"padding_idx": 0},
}


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("name", CHOICES)
def test_it_is_a_linear_layer_on_one_hot_rows(name: str) -> None:
    question, plain = problems(**CHOICES[name])
    K, E = ek.kfac(question)["table"], ek.ekfac(question)["table"]
    assert isinstance(K, ek.LookupKronecker)
    assert isinstance(E, ek.LookupEigenKronecker)
    expected = ek.kfac(plain)["table"]
    close(K.A, expected.A, 1e-12)
    close(K.B, expected.B, 1e-12)
    G = torch.cat([chunk["table"] for chunk in ek.per_sample_gradients(plain)])
    close(E.eigenvalues, squares_from_gradients(G, E.Q_B, E.Q_A) / N, 1e-12)
    close(E.trace(), ek.exact_fisher(plain)["table"].trace(), 1e-12)
    assert set(E.words.tolist()) == {*WORDS.flatten().tolist()} - {question.model.table.padding_idx}


def test_a_word_twice_in_a_sample_is_one_column_of_g() -> None:
    """Sums come before squares: the two positions of a word may cancel."""
    g = torch.tensor([[[[1.0], [-1.0], [2.0]]]])
    a = basis.OneHot(torch.tensor([[4, 4, 1]]), V, torch.float32)
    squares = basis.squares_from_words(a, g, torch.eye(1), torch.tensor([1, 4]))
    assert squares.tolist() == [[4.0, 0.0]]


@pytest.mark.usefixtures("_large")
@pytest.mark.parametrize("entry", [ek.kfac, ek.ekfac])
@pytest.mark.parametrize("words", [WORDS, torch.arange(V).expand(N, V)], ids=["some", "all"])
def test_operators_answer_as_those_with_matrices(words: Tensor, entry: Any) -> None:
    found = entry(problems(words)[0])["table"]
    other, P = found.written_out(), torch.randn(D, V).double()
    damping = float(found.trace()) / 10
    assert found.shape == other.shape == (D, V)
    for x, y in (
        (found.dense(), other.dense()),
        (found.matvec(P), other.matvec(P)),
        (found.solve(P, damping=damping), other.solve(P, damping=damping)),
        (found.trace(), other.trace()),
        (found.logdet(damping=damping), other.logdet(damping=damping)),
        (found.scaled(3.0).matvec(P), 3 * other.matvec(P)),
    ):
        close(x, y, 1e-11)
    dense = torch.linalg.solve(found.dense() + damping * torch.eye(D * V).double(), P.flatten())
    close(found.solve(P, damping=damping).flatten(), dense, 1e-10)
    with pytest.raises(ek.ProblemError, match="acts on"):
        found.solve(P.T, damping=0.1)


def test_of_a_small_vocabulary_the_matrices_are_there() -> None:
    question, _ = problems()
    K, E = ek.kfac(question)["table"], ek.ekfac(question)["table"]
    assert isinstance(K, ek.Kronecker)
    assert isinstance(E, ek.EigenKronecker)
    counts = torch.bincount(WORDS.flatten(), minlength=V).double()
    assert torch.equal(K.A, torch.diag(counts / (N * T)))
    assert torch.equal(E.Q_A, torch.eye(V).double()[:, [0, 1, 2, 3, 5]])


@pytest.mark.parametrize("large", [False, True])
def test_bags_of_words(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Reduce they are covariances; of one word a sample, they are those of Expand."""
    if large:
        for module in (kfac, basis):
            monkeypatch.setattr(module, "LARGE_VOCABULARY", 2)
    for words in (WORDS, WORDS[:, :1]):
        question, plain = problems(words, sharing=ek.Reduce())
        K, E, expected = ek.kfac(question), ek.ekfac(question), ek.kfac(plain)
        close(K["table"].A, expected["table"].A, 1e-12)
        close(K["table"].B, expected["table"].B, 1e-12)
        close(E["table"].trace(), ek.exact_fisher(plain)["table"].trace(), 1e-12)


@pytest.mark.parametrize("entry", [ek.kfac, ek.ekfac])
def test_one_word_here_and_several_there(entry: Any) -> None:
    question, plain = problems(sharing=ek.Reduce())
    for asked in (question, plain):
        ((words, y), other) = asked.batches
        object.__setattr__(asked, "batches", [(words[:, :1], y), other])
    close(entry(question)["table"].trace(), entry(plain)["table"].trace(), 1e-12)


def test_bags_of_a_large_vocabulary_are_refused() -> None:
    table = nn.Embedding(17_000, D)
    problem = ek.Problem(
        Reading(table), [(WORDS, torch.randn(N, 2))], ek.Gaussian(), sharing=ek.Reduce()
    )
    with pytest.raises(ek.ProblemError, match=r"layer 'table': .*17000 x 17000.*Expand\(\)"):
        ek.kfac(problem)
    ek.kfac(ek.Problem(problem.model, problem.batches, ek.Gaussian()))
    ek.kfac(ek.Problem(problem.model, problem.batches, ek.Gaussian(), layers=("mix", "head")))


PREPARED = """
model = nn.Sequential(nn.Embedding(50_000, 64), nn.Tanh(), nn.Linear(64, 2))
x, y = torch.randint(50_000, (40, 50)), torch.randn(40, 50, 2)
problem = ek.Problem(model, [(x[:20], y[:20]), (x[20:], y[20:])], ek.Gaussian(), ek.Empirical())
"""
MEASURED = """
K, E = ek.kfac(problem)["0"], ek.ekfac(problem)["0"]
E.solve(torch.randn(64, 50_000), damping=0.1)
assert E.eigenvalues.shape[1] == len(x.unique())
"""


@where_it_is_in_kilobytes
def test_fifty_thousand_words_take_little_memory() -> None:
    """A alone would have 10 GB; the table has 13 MB."""
    assert megabytes_of(PREPARED, MEASURED) < 500
