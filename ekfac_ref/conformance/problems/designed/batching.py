"""How samples come in batches: a list of them, a DataLoader, a mask only where there is padding.

A DataLoader of the kit is torch's own, over a list of samples in their order, which can be written
down and copied. It has a generator of its own, or every pass would draw from torch's global random
numbers, which an answer is to leave alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, SequentialSampler

from ekfac_ref.question.problem import Problem

Sizes = tuple[int, ...]
Batches = Iterable[tuple[Any, Tensor]]
Batching = Callable[[Any, Tensor, Sizes], Batches]


def in_batches(inputs: Any, targets: Tensor, sizes: Sizes) -> list[tuple[Any, Tensor]]:
    """All samples, as batches of these sizes."""
    stops = list(accumulate(sizes))
    return [
        (tree_map(lambda x, i=i, j=j: x[i:j], inputs), targets[i:j])
        for i, j in pairwise([0, *stops])
    ]


def masked_where_padded(inputs: Any, targets: Tensor, sizes: Sizes) -> list[tuple[Any, Tensor]]:
    """Batches without the "mask" among their inputs, where it counts every position."""

    def kept(given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x for name, x in given.items() if name != "mask" or not x.all()}

    return [(kept(given), y) for given, y in in_batches(inputs, targets, sizes)]


def in_a_loader(inputs: Any, targets: Tensor, sizes: Sizes) -> DataLoader[Any]:
    """A DataLoader of batches as large as the first; the last one holds what is left."""
    return _loader(_samples(inputs, targets), sizes[0], drop_last=False)


def in_a_dropping_loader(inputs: Any, targets: Tensor, sizes: Sizes) -> DataLoader[Any]:
    """A DataLoader of batches as large as the first; what is left is dropped."""
    return _loader(_samples(inputs, targets), sizes[0], drop_last=True)


def dropping(problem: Problem) -> Problem:
    """The problem with its data in a DataLoader that drops what full batches leave.

    As it is where none leave any, and where inputs are a tuple, of which a DataLoader makes a list.
    """
    inputs, targets = zip(*problem.batches, strict=True)
    N = sum(len(y) for y in targets)
    uneven = next((size for size in range(2, N) if N % size), None)
    if uneven is None or isinstance(inputs[0], tuple):
        return problem
    together = tree_map(lambda *parts: torch.cat(parts), *inputs)
    return replace(problem, batches=in_a_dropping_loader(together, torch.cat(targets), (uneven,)))


def loader_options(batches: object) -> dict[str, Any] | None:
    """The options of a DataLoader as the kit makes them; None of everything else."""
    if not isinstance(batches, DataLoader) or not isinstance(batches.sampler, SequentialSampler):
        return None
    if not isinstance(batches.dataset, list) or batches.batch_size is None:
        return None
    return {"batch_size": batches.batch_size, "drop_last": batches.drop_last}


def held(batches: Any) -> Any:
    """The pairs of inputs and targets that are in memory: samples of a DataLoader, or batches."""
    return batches if loader_options(batches) is None else batches.dataset


def holding(batches: Any, pairs: list[Any]) -> Any:
    """Other pairs of inputs and targets, which come as those that these hold."""
    options = loader_options(batches)
    return pairs if options is None else _loader(pairs, **options)


def _loader(samples: list[Any], batch_size: int, drop_last: bool) -> DataLoader[Any]:
    own = torch.Generator()
    return DataLoader(samples, batch_size, drop_last=drop_last, generator=own)  # type: ignore[arg-type]


def _samples(inputs: Any, targets: Tensor) -> list[Any]:
    return [(tree_map(lambda x, n=n: x[n], inputs), y) for n, y in enumerate(targets)]
