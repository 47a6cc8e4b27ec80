"""What the tests ask of every rank: functions that its process imports by name."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import sharded
from ekfac_ref.matrix import eigen
from studies.shards.comparison import Batches, Compared, beside_one_rank
from tests.support.experts import Experts

UNEVEN = (1, 5, 3)  # samples of each rank
GAP = (5, 0, 4)


def convolution(fisher: Any = None) -> ek.Problem:
    """A convolution of two groups and a linear layer, nine samples."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(30, 4))
    x, y = torch.randn(9, 4, 7).double(), torch.randint(4, (9,))
    return ek.Problem(model.double(), [(x, y)], ek.Categorical(), fisher or ek.Exact())


def masked() -> ek.Problem:
    """Positions count where the first feature is positive: on rank 0 of UNEVEN none, by Reduce."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    x = torch.randn(9, 4, 3).double()
    x[0, :, 0] = -1.0
    y = torch.where(x[..., 0] > 0, torch.randint(2, (9, 4)), -100)
    return ek.Problem(
        model,
        [(x, y)],
        ek.Categorical(),
        sharing=ek.Reduce(),
        mask=lambda x: x[..., 0] > 0,
    )


def words(vocabulary: int = 5000, sharing: Any = None, length: int = 3) -> ek.Problem:
    """An embedding, of whose words every rank sees others."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(vocabulary, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    x = torch.randint(vocabulary, (9, length))
    y = torch.randn(9, length, 2).double()
    return ek.Problem(model, [(x, y)], ek.Gaussian(), sharing=sharing or ek.Expand())


class BareExperts(nn.Module):
    """Matrices of no module; samples with a negative first number go to one of them alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(4, 3))
        self.experts = nn.ParameterList([*torch.randn(2, 3, 3)])

    def forward(self, x: Tensor) -> Tensor:
        y, positive = torch.tanh(x @ self.first), x[:, 0] > 0
        z = torch.zeros_like(y)
        for W, rows in zip(self.experts, (~positive, positive), strict=True):
            if rows.any():
                z = torch.where(rows[:, None], y @ W, z)
        return z


def without_modules() -> ek.Problem:
    """Of UNEVEN rank 0, and of GAP the first batch of rank 0, uses one of the experts only."""
    torch.manual_seed(5)
    x, y = torch.randn(9, 4).double(), torch.randn(9, 3).double()
    x[:, 0] = x[:, 0].abs() * torch.tensor([-1.0, -1, 1, 1, -1, 1, -1, 1, 1])
    return ek.Problem(BareExperts().double(), [(x, y)], ek.Gaussian())


def one_word_or_several(rank: int) -> Batches:
    """Under Reduce: of rank 0 samples of one word each, whose A is diagonal, of others of two."""
    (x, y), *_ = words(6, ek.Reduce(), 2).batches
    return [[(x[:2, :1], y[:2, :1])], [(x[2:5], y[2:5])], [(x[5:], y[5:])]][rank]


PROBLEMS = {
    "uneven": (convolution, UNEVEN),
    "a rank without data": (convolution, GAP),
    "empirical": (lambda: convolution(ek.Empirical()), UNEVEN),
    "labels drawn": (lambda: convolution(ek.Sampled(2, seed=7)), GAP),
    "mask, reduce": (masked, UNEVEN),
    "many words": (words, GAP),
    "no modules, no data": (without_modules, GAP),
    "no modules, an expert": (without_modules, UNEVEN),
}


def split(problem: ek.Problem, sizes: tuple[int, ...]) -> list[Batches]:
    """The samples in their order, so many for each rank; of more than two in two batches."""
    ((x, y),) = problem.batches
    parts, stop = [], 0
    for size in sizes:
        cuts = sorted({stop, stop + size // 2, stop + size})
        parts.append([(x[i:j], y[i:j]) for i, j in pairwise(cuts)])
        stop += size
    return parts


def beside(name: str) -> Compared | None:
    make, sizes = PROBLEMS[name]
    problem = make()
    return beside_one_rank(problem, split(problem, sizes))


def where_solvers_differ() -> Compared | None:
    """Rank 1 would order eigenvectors the other way round, as another machine may."""
    kept = torch.linalg.eigh

    def reversed_order(matrix: Tensor) -> Any:
        w, Q = kept(matrix)
        return w.flip(0), Q.flip(1)

    if dist.get_rank() == 1:
        torch.linalg.eigh = reversed_order
    try:
        return beside("uneven")
    finally:
        torch.linalg.eigh = kept


def an_expert_that_a_rank_does_not_use() -> Compared | None:
    """Of rank 0, which says nothing of that; that samples are run one by one, all ranks say."""
    torch.manual_seed(4)
    x, y = torch.randn(9, 5, 4).double(), torch.randn(9, 3).double()
    x[0, :, 0] = x[0, :, 0].abs()
    problem = ek.Problem(Experts().double(), [(x, y)], ek.Gaussian())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return beside_one_rank(problem, split(problem, UNEVEN))


def one_word_beside_several() -> Compared | None:
    return beside_one_rank(words(6, ek.Reduce(), 2), [one_word_or_several(r) for r in range(3)])


def own(sizes: tuple[int, ...] = UNEVEN, **changes: Any) -> ek.Problem:
    problem = convolution()
    return replace(problem, batches=split(problem, sizes)[dist.get_rank()], **changes)


def kinds() -> list[str]:
    """Of operators of an embedding with many words, on this rank."""
    problem = words()
    shard = replace(problem, batches=split(problem, GAP)[dist.get_rank()])
    return [type(X["0"]).__name__ for X in (sharded.kfac(shard), sharded.ekfac(shard))]


def traffic() -> list[tuple[str, int]]:
    """(what, bytes) of every exchange of numbers, in EKFAC of a convolution and a linear layer."""
    seen: list[tuple[str, int]] = []

    def counting(what: str, exchange: Any) -> Any:
        def counted(numbers: Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append((what, numbers.numel() * numbers.element_size()))
            return exchange(numbers, *args, **kwargs)

        return counted

    kept = dist.all_reduce, dist.broadcast
    dist.all_reduce, dist.broadcast = counting("sum", kept[0]), counting("send", kept[1])
    try:
        sharded.ekfac(own())
    finally:
        dist.all_reduce, dist.broadcast = kept
    return seen


def in_a_group(of: tuple[int, ...]) -> list[float]:
    """|E - E of one rank| by layers, for a group of some ranks only; a ProblemError on others."""
    group = dist.new_group(list(of))
    sizes = tuple(4 if rank in of else 0 for rank in range(3))
    E = sharded.ekfac(own(sizes), group)
    whole = replace(convolution(), batches=list(chain(*split(convolution(), sizes))))
    one = ek.ekfac(whole)
    return [float((E[name].dense() - one[name].dense()).norm()) for name in one]


def loss_scale(reduction: str, fisher: Any) -> tuple[float, float]:
    """Of a cross-entropy whose ignored labels are all on one rank: by all ranks, and by one."""
    problem, loss = masked(), nn.CrossEntropyLoss(reduction=reduction)
    problem = replace(problem, fisher=fisher, likelihood=ek.likelihood_of(loss))
    shard = replace(problem, batches=split(problem, GAP)[dist.get_rank()])
    return sharded.loss_scale(loss, shard), ek.loss_scale(loss, problem)


def trained_in_parallel(make: Any) -> list[float]:
    """The parameters after three steps, whose gradients are of all ranks' batches, averaged."""
    problem = convolution()
    (whole,), shards = problem.batches, split(problem, UNEVEN)
    parallel = nn.parallel.DistributedDataParallel(problem.model)
    with pytest.raises(ek.ProblemError, match="the replicas part; pass what it wraps"):
        make(parallel, nn.CrossEntropyLoss())
    optimizer = make(parallel.module, nn.CrossEntropyLoss())
    for _ in range(3):
        optimizer.zero_grad()
        optimizer.update(*whole)  # the same on all of them
        for x, y in shards[dist.get_rank()][:1]:
            nn.functional.cross_entropy(parallel(x), y).backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(problem.model.parameters()).tolist()


# Questions that have no answer


def loss_scale_without_data() -> None:
    sharded.loss_scale(nn.CrossEntropyLoss(), own((0, 0, 0)))


def loss_scale_otherwise() -> None:
    sharded.loss_scale(nn.CrossEntropyLoss(reduction="mean" if dist.get_rank() else "sum"), own())


def without_data() -> None:
    sharded.ekfac(own((0, 0, 0)))


def with_nan(rank: int) -> None:
    problem = own()
    if dist.get_rank() == rank:
        problem.batches[0][0][0] = torch.nan
    sharded.kfac(problem)


class Failing:
    """Batches that cannot be read at one pass."""

    def __init__(self, batches: Batches, at: int) -> None:
        self.batches, self.passes_left = batches, at

    def __iter__(self) -> Iterator[Any]:
        self.passes_left -= 1
        if not self.passes_left:
            raise OSError("the disk is gone\nand more of it")
        return iter(self.batches)


def failing(rank: int, at: int) -> None:
    problem = own()
    if dist.get_rank() == rank:
        problem = replace(problem, batches=Failing(problem.batches, at))
    sharded.ekfac(problem)


def without_eigenvectors(rank: int) -> None:
    kept = torch.linalg.eigh

    def unsolved(matrix: Tensor) -> Any:
        raise RuntimeError("not enough memory: you tried to allocate too much")

    torch.linalg.eigh = unsolved if dist.get_rank() == rank else kept
    try:
        sharded.ekfac(own())
    finally:
        torch.linalg.eigh = kept


def nothing_counted() -> None:
    problem = masked()
    shard = split(problem, UNEVEN)[dist.get_rank()]
    nowhere = [(-x.abs(), torch.full_like(y, -100)) for x, y in shard]
    sharded.kfac(replace(problem, batches=nowhere))


def differing(rank: int, what: str) -> None:
    problem, function = own(), sharded.kfac
    if dist.get_rank() == rank:
        if what == "parameter":
            with torch.no_grad():
                problem.model[3].bias[1] += 1e-12
        elif what == "buffer":
            problem.model.register_buffer("scale", torch.ones(1))
        elif what == "frozen":
            problem.model[3].bias.requires_grad_(False)
        elif what == "module":
            problem.model[1] = nn.ReLU()
        elif what == "fisher":
            problem = replace(problem, fisher=ek.Sampled())
        elif what == "layers":
            problem = replace(problem, layers=("3",))
        else:
            function = sharded.ekfac
    function(problem)


def solver() -> str:
    """Whose eigenvectors a rank has asked for itself: the sizes of its eigenproblems."""
    sizes: list[int] = []
    kept = eigen._solved

    def noted(matrix: Tensor) -> Any:
        *several, d, _ = matrix.shape
        sizes.extend([d] * math.prod(several))
        return kept(matrix)

    eigen._solved = noted
    try:
        sharded.ekfac(own())
    finally:
        eigen._solved = kept
    return str(sorted(sizes))
