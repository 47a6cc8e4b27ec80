"""Mistakes in which samples are seen, and in how much each of them weighs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, part, with_observations
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.question.problem import Problem

DECAY = 0.95


def from_inputs(seen: Observation, a: Sequence[Tensor]) -> Observation:
    """Other inputs, and the gradients G_nc = sum_t g_nct a_nt^T that follow from them."""
    pairs = zip(seen.g, a, strict=True)
    return replace(seen, a=list(a), G=[torch.einsum("cto,ti->coi", g, a_n) for g, a_n in pairs])


def _weighing(weights: Callable[[Observation], Sequence[float]]) -> Ask:
    """Sample n counts weights[n] times in every sum of squares, the 1/N as it was."""
    return with_observations(lambda seen: _weighted(seen, weights(seen)))


def _weighted(seen: Observation, weights: Sequence[float]) -> Observation:
    roots = [w**0.5 for w in weights]
    a, g, G = (_times(tensors, roots) for tensors in (seen.a, seen.g, seen.G))
    return replace(seen, a=a, g=g, G=G)


def _sampling(numbers: Callable[[Observation], list[int]]) -> Ask:
    """Some samples, or some more than once, and no others."""
    return with_observations(lambda seen: part(seen, numbers(seen)))


def _times(tensors: Sequence[Tensor], factors: Sequence[float]) -> list[Tensor]:
    return [x * factor for x, factor in zip(tensors, factors, strict=True)]


def _sizes(seen: Observation) -> list[int]:
    """Size of every sample's own batch."""
    return [seen.batch.count(b) for b in seen.batch]


def _batches(seen: Observation) -> int:
    return len(set(seen.batch))


def _mean_loss(seen: Observation) -> Observation:
    shares = [1 / size for size in _sizes(seen)]
    return replace(seen, g=_times(seen.g, shares), G=_times(seen.G, shares))


def _running_average(seen: Observation) -> list[float]:
    """F <- DECAY F + (1 - DECAY) F_b after the first batch, which starts it."""
    last, N = seen.batch[-1], len(seen.batch)
    share = [DECAY ** (last - b) * (1 if b == 0 else 1 - DECAY) for b in seen.batch]
    return [s * N / size for s, size in zip(share, _sizes(seen), strict=True)]


def _without_small_last_batch(seen: Observation) -> list[int]:
    dropped = seen.batch[-1] if _sizes(seen)[-1] < _sizes(seen)[0] else None
    return [n for n, b in enumerate(seen.batch) if b != dropped]


def _filled_up(seen: Observation) -> list[int]:
    missing = max(0, _sizes(seen)[0] - _sizes(seen)[-1])
    return [*range(len(seen.batch)), *range(missing)]


def _over_the_dataset(problem: Problem) -> Observations:
    """1/N with the number of samples behind a DataLoader for N, dropped or not."""

    def scaled(seen: Observation) -> Observation:
        N = len(seen.a)
        return _weighted(seen, [N / len(getattr(problem.batches, "dataset", seen.a))] * N)

    right = observed_exactly(problem)
    return {name: [scaled(seen) for seen in groups] for name, groups in right.items()}


def _each_once(seen: Observation) -> list[int]:
    pairs = zip(seen.a, seen.G, strict=True)
    values = [a.numpy().tobytes() + G.numpy().tobytes() for a, G in pairs]
    return list({value: n for n, value in enumerate(values)}.values())


def _against_the_next(seen: Observation) -> Observation:
    """Inputs of sample n + 1 beside the gradients of sample n."""
    moved = replace(seen, counted=seen.counted[1:] + seen.counted[:1])
    return from_inputs(moved, seen.a[1:] + seen.a[:1])


_mutant = partial(Mutant, laws=("recut", "trace", "eigenvalues"))

SAMPLES = (
    _mutant(
        name="mean-of-batch-means",
        mistake="averages within every batch and then over batches (right: over samples)",
        story="A running mean that knows only how many batches came; all is well while batches "
        "are equal. avalanche#1224 averages over batches too.",
        ekfac=_weighing(
            lambda seen: [len(seen.a) / (_batches(seen) * size) for size in _sizes(seen)]
        ),
        only="batches of unequal size",
    ),
    _mutant(
        name="mean-loss-gradients",
        mistake="takes gradients of the batch's mean loss for those of single samples (right: of "
        "the summed loss)",
        story="losses.mean().backward() where hooks collect per-sample gradients, so each of them "
        "is divided by the size of its batch: bergson#112, natural-gradients#2.",
        ekfac=with_observations(_mean_loss),
        only="batches of more than one sample",
    ),
    _mutant(
        name="batches-for-samples",
        mistake="divides by the number of batches (right: of samples)",
        story="len(loader) where len(loader.dataset) was meant.",
        ekfac=_weighing(lambda seen: [len(seen.a) / _batches(seen)] * len(seen.a)),
        only="batches of more than one sample",
    ),
    _mutant(
        name="nominal-batch-size",
        mistake="counts the last, smaller batch as a full one (right: by its size)",
        story="N is computed as len(loader) * loader.batch_size. kronfluence@2dafce4 cut its last "
        "batch by a wrong count.",
        ekfac=_weighing(
            lambda seen: [len(seen.a) / (_batches(seen) * _sizes(seen)[0])] * len(seen.a)
        ),
        laws=("trace", "recut", "eigenvalues"),
        only="batches of unequal size",
    ),
    _mutant(
        name="dataset-for-samples",
        mistake="divides by the size of a DataLoader's dataset (right: by the samples that come)",
        story="N is len(loader.dataset), and the loader has drop_last.",
        ekfac=replace(CORRECT, observe=_over_the_dataset).ekfac,
        laws=("trace", "recut", "eigenvalues"),
        only="a DataLoader that drops some samples",
    ),
    _mutant(
        name="small-last-batch-dropped",
        mistake="never looks at a smaller last batch (right: at every sample)",
        story="drop_last=True in a DataLoader of its own: asdl@2a1a15f.",
        ekfac=_sampling(_without_small_last_batch),
        only="a last batch smaller than the first",
    ),
    _mutant(
        name="last-batch-only",
        mistake="keeps the last batch alone (right: adds all of them up)",
        story="An assignment where += was meant, so every batch overwrites the one before.",
        ekfac=_sampling(lambda seen: [n for n, b in enumerate(seen.batch) if b == seen.batch[-1]]),
        laws=("order", "trace", "eigenvalues"),
        only="two batches or more",
    ),
    _mutant(
        name="running-average",
        mistake="keeps a running average over batches (right: the mean over samples)",
        story="The exponential average of a KFAC optimizer, decay 0.95, on data that is not a "
        "stream: the first batch weighs most.",
        ekfac=_weighing(_running_average),
        laws=("recut", "order", "trace"),
        only="two batches or more",
    ),
    _mutant(
        name="last-batch-filled-up",
        mistake="repeats the first samples until the last batch is full (right: each counts once)",
        story="What a distributed sampler does to let every process have equally many; the same "
        "corner as kronfluence@190bff5.",
        ekfac=_sampling(_filled_up),
        only="a last batch smaller than the first",
    ),
    _mutant(
        name="duplicates-once",
        mistake="sees equal samples only once (right: as often as they come)",
        story="Results are kept in a dict that goes by the sample.",
        ekfac=_sampling(_each_once),
        laws=("trace", "eigenvalues"),
        only="two equal samples, among others",
    ),
    _mutant(
        name="inputs-of-next-sample",
        mistake="pairs a sample's gradient with another sample's input (right: with its own)",
        story="Inputs and gradients are collected in two passes over a loader that shuffles; A and "
        "B are right.",
        ekfac=with_observations(_against_the_next),
        laws=("eigenvalues", "trace"),
        only="two samples or more",
    ),
    _mutant(
        name="last-sample-lost",
        mistake="leaves the last sample out of the sums (right: all N)",
        story="range(1, N), while the 1/N in front is right.",
        ekfac=_weighing(lambda seen: [1.0] * (len(seen.a) - 1) + [0.0]),
        laws=("order", "trace", "eigenvalues"),
    ),
    _mutant(
        name="first-of-each-batch",
        mistake="looks at the first sample of every batch alone (right: at all)",
        story="An index [0] from the time when batches had one sample.",
        ekfac=_sampling(lambda seen: [seen.batch.index(b) for b in sorted(set(seen.batch))]),
        only="batches of more than one sample",
    ),
)
