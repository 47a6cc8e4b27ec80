"""Optimizers with an Embedding: they step as with a Linear on one-hot rows, in no V x V memory."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC, EKFACPreconditioner, KFACPreconditioner
from tests.support.memory import megabytes_of, where_it_is_in_kilobytes
from tests.support.optim_cases import close
from tests.support.optim_runs import equal, leaves, values

BOTH = pytest.mark.parametrize("make", [EKFAC, KFAC])
PAIRS = pytest.mark.parametrize("make", [EKFACPreconditioner, KFACPreconditioner])
V, D = 7, 3
# words of four batches; 4 comes late, 2 often, 6 never
STREAM = [
    torch.tensor(words)
    for words in (
        [[1, 1, 2], [2, 3, 0]],
        [[2, 4, 4], [0, 0, 1], [2, 2, 2]],
        [[5, 1, 3]],
        [[4, 3, 3], [5, 2, 0]],
    )
]


class OneHotRows(nn.Module):
    """An Embedding by a Linear; what is padding has a row of zeros."""

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        self.linear = nn.Linear(V, D, bias=False).double()
        self.linear.weight.data, self.padding = table.weight.data.T.clone(), table.padding_idx

    def forward(self, words: Tensor) -> Tensor:
        rows = nn.functional.one_hot(words, V).double()
        return self.linear(
            rows if self.padding is None else rows * (words != self.padding)[..., None]
        )


class Pooled(nn.Module):
    """Mean over the words, then a layer."""

    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.table, self.head = table, nn.Linear(D, 2).double()

    def forward(self, words: Tensor) -> Tensor:
        return self.head(torch.tanh(self.table(words)).mean(1))


def twins(padding: int | None = None) -> tuple[Pooled, Pooled]:
    torch.manual_seed(3)
    model = Pooled(nn.Embedding(V, D, padding_idx=padding).double())
    other = Pooled(OneHotRows(model.table))
    other.head = copy.deepcopy(model.head)
    return model, other


def walk(model: nn.Module, chosen: Any, stream: list[Tensor]) -> None:
    for words in stream:
        y = words.sum(1) % 2
        chosen.update(words, y)
        chosen.zero_grad()
        nn.functional.cross_entropy(model(words), y).backward()
        chosen.step()


def settings(**more: Any) -> dict[str, Any]:
    return {"lr": 0.3, "damping": 0.05, "momentum": 0.9, "kl_clip": 0.02, "decay": 0.7} | more


CHOICES: dict[str, dict[str, Any]] = {
    "a basis each time": {"recompute_every": 1},
    "an old basis": {"recompute_every": 3},
    "one basis": {"recompute_every": 100, "fisher": ek.Empirical()},
    "sampled": {"recompute_every": 2, "fisher": ek.Sampled(2, seed=1), "decay": 1.0},
    "the last batch": {"recompute_every": 1, "decay": 0.0},
}


@BOTH
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("padding", [None, 0])
def test_steps_are_those_on_one_hot_rows(make, choice: str, padding: int | None) -> None:
    """Words that come after the basis was taken, and a word that never comes, included."""
    model, other = twins(padding)
    before = model.table.weight.detach().clone()
    for m in (model, other):
        walk(m, make(m, ek.Categorical(), **settings(**CHOICES[choice])), STREAM)
    assert (model.table.weight - before)[:6].norm() > 1e-3
    assert torch.equal(model.table.weight[6], before[6])
    assert close(model.table.weight.detach().T, other.table.linear.weight.detach())
    assert close(model.head.weight.detach(), other.head.weight.detach())


@BOTH
@pytest.mark.parametrize("one_word_first", [True, False])
def test_bags_of_words_are_rows_like_others(make, one_word_first: bool) -> None:
    """A is diagonal as long as every sample has one word, and a matrix from then on."""
    narrow = [words[:, :1] for words in STREAM]
    stream = [*narrow[:2], *STREAM[2:]] if one_word_first else [*STREAM[:2], *narrow[2:]]
    model, other = twins()
    chosen = []
    for m in (model, other):
        more = settings(sharing=ek.Reduce(), recompute_every=3)
        chosen.append(make(m, ek.Categorical(), **more))
        walk(m, chosen[-1], stream)
    one, two = (x.preconditioner.factors for x in chosen)
    assert close(one["table"].A, two["table.linear"].A)
    assert close(model.table.weight.detach().T, other.table.linear.weight.detach())


@PAIRS
def test_the_first_update_is_the_reference(make) -> None:
    """Also where words are equally frequent: then it is they that are the basis."""
    model, words = twins()[0], torch.tensor([[1, 2, 3], [3, 2, 1]])
    preconditioner = make(model, ek.Categorical())
    preconditioner.update(words, torch.tensor([0, 1]))
    problem = ek.Problem(model, [(words, torch.tensor([0, 1]))], ek.Categorical())
    entry = ek.ekfac if make is EKFACPreconditioner else ek.kfac
    assert close(preconditioner.operators["table"].dense(), entry(problem)["table"].dense())
    assert close(preconditioner.factors["table"].dense(), ek.kfac(problem)["table"].dense())


@PAIRS
def test_words_never_seen_get_the_damping_alone(make) -> None:
    model = twins()[0]
    preconditioner = make(model, ek.Categorical())
    preconditioner.update(STREAM[0], torch.tensor([0, 1]))
    gradients = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    found = preconditioner.precondition(gradients, 0.25)["table.weight"]
    assert close(found[4:], torch.full((3, D), 4.0).double())
    assert (found[:4] - 4.0).abs().amin(1).gt(1e-3).all()


@BOTH
@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_is_never_stopped(make, sharing: ek.Expand | ek.Reduce, stop: int) -> None:
    """Bit for bit, through a file; under Reduce in the middle of one word a sample and several."""
    stream = [words[:, :1] for words in STREAM[:1]] + STREAM[1:]
    more = settings(sharing=sharing, recompute_every=2)
    straight, model = twins()[0], twins()[0]
    walk(straight, make(straight, ek.Categorical(), **more), stream)
    chosen = make(model, ek.Categorical(), **more)
    walk(model, chosen, stream[:stop])
    file = io.BytesIO()
    torch.save(chosen.state_dict(), file)
    file.seek(0)
    resumed = make(model, ek.Categorical(), **more)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert leaves(resumed.state_dict()) == leaves(chosen.state_dict())
    walk(model, resumed, stream[stop:])
    assert equal(values(model), values(straight))


@PAIRS
def test_a_state_with_an_eigenbasis_written_out_is_gone_on_with(make) -> None:
    """As it is of bags of words: A and Q_A are matrices, and one more update keeps them."""
    model = twins()[0]
    mine, theirs = (make(model, ek.Categorical(), recompute_every=5) for _ in range(2))
    mine.update(STREAM[0], torch.tensor([0, 1]))
    state = mine.state_dict()
    block = state["blocks"]["table", 0]
    assert block["A"].shape == (V,)
    block["A"], block["Q_A"] = torch.diag(block["A"]), torch.eye(V).double()
    theirs.load_state_dict(state)
    for one in (mine, theirs):
        one.update(STREAM[1], torch.tensor([0, 1, 0]))
    assert close(theirs.operators["table"].dense(), mine.operators["table"].dense())
    assert close(theirs.factors["table"].A, mine.factors["table"].A)


@PAIRS
def test_a_damaged_state_is_refused(make) -> None:
    mine = make(twins()[0], ek.Categorical())
    mine.update(STREAM[0], torch.tensor([0, 1]))
    for damage, message in (
        (lambda block: block.pop("Q_A"), "A is not a tensor|Q_A is not a tensor"),
        (lambda block: block.update(Q_A=torch.eye(V).double()), "A is not a tensor"),
        (lambda block: block.update(A=block["A"][:2]), r"A is not a tensor of .* \[7\]"),
        (lambda block: block.update(eigenvalues=block["eigenvalues"][:, :2]), r"\[3, 7\]"),
    ):
        state = copy.deepcopy(mine.state_dict())
        damage(state["blocks"]["table", 0])
        with pytest.raises(ek.ProblemError, match=message):
            mine.load_state_dict(state)


@PAIRS
def test_bags_of_a_large_vocabulary_are_refused(make) -> None:
    """And what the message says works: Expand, or to leave it out."""
    model = nn.Sequential(nn.Embedding(17_000, D), nn.Flatten(), nn.Linear(3 * D, 2))
    batch = STREAM[0], torch.tensor([0, 1])
    bags = make(model, ek.Categorical(), sharing=ek.Reduce())
    with pytest.raises(ek.ProblemError, match=r"layer '0': .*17000 x 17000.*Expand\(\)"):
        bags.update(*batch)
    assert bags.updates == 0
    make(model, ek.Categorical()).update(*batch)
    make(model, ek.Categorical(), sharing=ek.Reduce(), layers=("2",)).update(*batch)


PREPARED = """
import io
from ekfac_ref.optim import EKFAC, KFAC

model = nn.Sequential(nn.Embedding(50_000, 16), nn.Flatten(), nn.Linear(160, 2))
x, y = torch.randint(50_000, (40, 10)), torch.randint(2, (40,))
"""
MEASURED = """
for kind in (EKFAC, KFAC):
    optimizer = kind(model, ek.Categorical(), recompute_every=2)
    for _ in range(3):
        optimizer.zero_grad()
        optimizer.update(x, y)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    optimizer.load_state_dict(optimizer.state_dict())
    assert file.tell() < 20e6, file.tell()
    optimizer.preconditioner.factors["0"].trace()
"""


@where_it_is_in_kilobytes
def test_fifty_thousand_words_take_little_memory() -> None:
    """A alone would have 10 GB; the table has 3 MB."""
    assert megabytes_of(PREPARED, MEASURED) < 500
