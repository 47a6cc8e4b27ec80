"""Mistakes in which samples are seen, and in how much each of them weighs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, part
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.question.problem import Problem

DECAY = 0.95


def seeing(change: Callable[[Observation], Observation]) -> Ask:
    """The correct algebra on changed observations."""

    def look(problem: Problem) -> dict[str, list[Observation]]:
        return {
            name: [change(seen) for seen in groups]
            for name, groups in observed_exactly(problem).items()
        }

    return replace(CORRECT, look=look).ekfac


def with_inputs(seen: Observation, a: Sequence[Tensor]) -> Observation:
    """Other inputs, and the gradients G_nc = sum_t g_nct a_nt^T that follow from them."""
    pairs = zip(seen.g, a, strict=True)
    return replace(seen, a=list(a), G=[torch.einsum("cto,ti->coi", g, a_n) for g, a_n in pairs])


def _weighted(seen: Observation, weights: Sequence[float]) -> Observation:
    """Sample n counts weights[n] times in every sum of squares, the 1/N as it was."""
    roots = [w**0.5 for w in weights]
    return replace(seen, a=_times(seen.a, roots), g=_times(seen.g, roots), G=_times(seen.G, roots))


def _scaled_gradients(seen: Observation, factors: Sequence[float]) -> Observation:
    return replace(seen, g=_times(seen.g, factors), G=_times(seen.G, factors))


def _times(tensors: Sequence[Tensor], factors: Sequence[float]) -> list[Tensor]:
    return [x * factor for x, factor in zip(tensors, factors, strict=True)]


def _sizes(seen: Observation) -> list[int]:
    """Size of every sample's own batch."""
    count = Counter(seen.batch)
    return [count[b] for b in seen.batch]


def _of_batch(seen: Observation, number: int) -> list[int]:
    return [n for n, b in enumerate(seen.batch) if b == number]


def _mean_of_batch_means(seen: Observation) -> Observation:
    batches, N = len(set(seen.batch)), len(seen.batch)
    return _weighted(seen, [N / (batches * size) for size in _sizes(seen)])


def _running_average(seen: Observation) -> Observation:
    """F <- DECAY F + (1 - DECAY) F_b after the first batch, which starts it."""
    last, N = seen.batch[-1], len(seen.batch)
    share = [DECAY ** (last - b) * (1 if b == 0 else 1 - DECAY) for b in seen.batch]
    return _weighted(seen, [s * N / size for s, size in zip(share, _sizes(seen), strict=True)])


def _mean_loss(seen: Observation) -> Observation:
    return _scaled_gradients(seen, [1 / size for size in _sizes(seen)])


def _batches_for_samples(seen: Observation) -> Observation:
    N = len(seen.batch)
    return _weighted(seen, [N / len(set(seen.batch))] * N)


def _nominal_size(seen: Observation) -> Observation:
    N = len(seen.batch)
    return _weighted(seen, [N / (len(set(seen.batch)) * _sizes(seen)[0])] * N)


def _without_small_last_batch(seen: Observation) -> Observation:
    last_is_small = _sizes(seen)[-1] < _sizes(seen)[0]
    dropped = seen.batch[-1] if last_is_small else None
    return part(seen, [n for n, b in enumerate(seen.batch) if b != dropped])


def _filled_up(seen: Observation) -> Observation:
    missing = max(0, _sizes(seen)[0] - _sizes(seen)[-1])
    return part(seen, [*range(len(seen.batch)), *range(missing)])


def _each_once(seen: Observation) -> Observation:
    by_value = {
        (a.numpy().tobytes(), G.numpy().tobytes()): n
        for n, (a, G) in enumerate(zip(seen.a, seen.G, strict=True))
    }
    return part(seen, list(by_value.values()))


def _against_the_next(seen: Observation) -> Observation:
    """Inputs of sample n + 1 beside the gradients of sample n."""
    moved = replace(seen, counted=seen.counted[1:] + seen.counted[:1])
    return with_inputs(moved, seen.a[1:] + seen.a[:1])


def _last_lost(seen: Observation) -> Observation:
    return _weighted(seen, [1.0] * (len(seen.batch) - 1) + [0.0])


def _first_of_each_batch(seen: Observation) -> Observation:
    return part(seen, [seen.batch.index(b) for b in sorted(set(seen.batch))])


SAMPLES = (
    Mutant(
        name="mean-of-batch-means",
        mistake="averages within every batch and then over batches (right: over samples)",
        story="A running mean that knows only how many batches came; all is well while batches "
        "are equal. avalanche#1224 averages over batches too.",
        ekfac=seeing(_mean_of_batch_means),
        laws=("recut", "trace", "eigenvalues"),
        only="batches of unequal size",
    ),
    Mutant(
        name="mean-loss-gradients",
        mistake="takes gradients of the batch's mean loss for those of single samples (right: of "
        "the summed loss)",
        story="losses.mean().backward() where hooks collect per-sample gradients, so each of them "
        "is divided by the size of its batch: bergson#112, natural-gradients#2.",
        ekfac=seeing(_mean_loss),
        laws=("recut", "trace", "eigenvalues"),
        only="batches of more than one sample",
    ),
    Mutant(
        name="batches-for-samples",
        mistake="divides by the number of batches (right: of samples)",
        story="len(loader) where len(loader.dataset) was meant.",
        ekfac=seeing(_batches_for_samples),
        laws=("recut", "trace", "eigenvalues"),
        only="batches of more than one sample",
    ),
    Mutant(
        name="nominal-batch-size",
        mistake="counts the last, smaller batch as a full one (right: by its size)",
        story="N is computed as len(loader) * loader.batch_size. kronfluence@2dafce4 cut its last "
        "batch by a wrong count.",
        ekfac=seeing(_nominal_size),
        laws=("trace", "recut", "eigenvalues"),
        only="batches of unequal size",
    ),
    Mutant(
        name="small-last-batch-dropped",
        mistake="never looks at a smaller last batch (right: at every sample)",
        story="drop_last=True in a DataLoader of its own: asdl@2a1a15f.",
        ekfac=seeing(_without_small_last_batch),
        laws=("recut", "trace", "eigenvalues"),
        only="a last batch smaller than the first",
    ),
    Mutant(
        name="last-batch-only",
        mistake="keeps the last batch alone (right: adds all of them up)",
        story="An assignment where += was meant, so every batch overwrites the one before.",
        ekfac=seeing(lambda seen: part(seen, _of_batch(seen, seen.batch[-1]))),
        laws=("order", "trace", "eigenvalues"),
        only="two batches or more",
    ),
    Mutant(
        name="running-average",
        mistake="keeps a running average over batches (right: the mean over samples)",
        story="The exponential average of a KFAC optimizer, decay 0.95, on data that is not a "
        "stream: the first batch weighs most.",
        ekfac=seeing(_running_average),
        laws=("recut", "order", "trace"),
        only="two batches or more",
    ),
    Mutant(
        name="last-batch-filled-up",
        mistake="repeats the first samples until the last batch is full (right: each counts once)",
        story="What a distributed sampler does to let every process have equally many; the same "
        "corner as kronfluence@190bff5.",
        ekfac=seeing(_filled_up),
        laws=("recut", "trace", "eigenvalues"),
        only="a last batch smaller than the first",
    ),
    Mutant(
        name="duplicates-once",
        mistake="sees equal samples only once (right: as often as they come)",
        story="Results are kept in a dict that goes by the sample.",
        ekfac=seeing(_each_once),
        laws=("trace", "eigenvalues"),
        only="two equal samples, among others",
    ),
    Mutant(
        name="inputs-of-next-sample",
        mistake="pairs a sample's gradient with another sample's input (right: with its own)",
        story="Inputs and gradients are collected in two passes over a loader that shuffles; A and "
        "B are right.",
        ekfac=seeing(_against_the_next),
        laws=("eigenvalues", "trace"),
        only="two samples or more",
    ),
    Mutant(
        name="last-sample-lost",
        mistake="leaves the last sample out of the sums (right: all N)",
        story="range(1, N), while the 1/N in front is right.",
        ekfac=seeing(_last_lost),
        laws=("order", "trace", "eigenvalues"),
    ),
    Mutant(
        name="first-of-each-batch",
        mistake="looks at the first sample of every batch alone (right: at all)",
        story="An index [0] from the time when batches had one sample.",
        ekfac=seeing(_first_of_each_batch),
        laws=("recut", "trace", "eigenvalues"),
        only="batches of more than one sample",
    ),
)
