"""Which mistake of an optimizer it is: its steps against those of every mutant, by the same rules.

A mutant trains as the subject declares to, but for its mistake. Compared are all moves of some
trainings: with a new basis at every update and at every second one, with momentum, with a clip.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.diagnosis.comparison import relative
from ekfac_ref.conformance.laws.training.step import settings_for
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.trainer import Trainer
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.eigengaps import gap, gate
from ekfac_ref.question.columns import Sampled
from ekfac_ref.question.problem import Problem

_USED = 6  # problems
FITS = 1e-6  # relative; a mistake is far larger, and rounding that is carried on far smaller
_STEPS = 3


def diagnosed_training(
    subject: Subject, catalogue: Sequence[Mutant], seed: int, problems: Sequence[Problem]
) -> str:
    """What is wrong with its steps, in a sentence; "" where nothing is or nothing can be told."""
    drawn = problems or draw_problems(subject.abilities, 60, seed)
    used = list(islice((p for p in drawn if _is_determined(p)), _USED))
    given = [_all_moves(subject, problem) for problem in used]
    if subject.definition.has_other_matrices or not any(given):
        return ""
    if _agree(given, _following(subject, Trainer()), used):
        return ""
    trainers = [
        (mutant, getattr(mutant.subject.optimizer, "__self__", None)) for mutant in catalogue
    ]
    named = [
        mutant.mistake
        for mutant, trainer in trainers
        if isinstance(trainer, Trainer) and _agree(given, _following(subject, trainer), used)
    ]
    if not named:
        return "Its steps are those of no mistake in the catalogue."
    return f"Its steps: it looks as if the optimizer {', or, which is the same, '.join(named)}."


def trainings(trial: Trial) -> Iterator[Hyperparameters]:
    """What subjects with the same declarations are told to train by."""
    training, plain = trial.subject.definition.training, settings_for(trial)
    yield plain
    yield replace(plain, refresh_every=2)
    if training.has_momentum:
        yield replace(plain, momentum=0.7)
    if training.clip is not None:
        for kl_clip in (1e-3, 1e-5):
            yield replace(plain, kl_clip=kl_clip)


def _following(subject: Subject, trainer: Trainer) -> Subject:
    """One that declares what the subject declares."""
    optimizer = replace(trainer, definition=subject.definition).optimizer
    return Subject("one that trains", optimizer=optimizer, definition=subject.definition)


def _is_determined(problem: Problem) -> bool:
    """Whether eigenvectors of every batch by itself are; those of the means mostly are, then."""
    if problem.dtype is not torch.float64 or isinstance(problem.fisher, Sampled):
        return False
    first = observed_exactly(replace(problem, batches=[*problem.batches][:1]))
    return all(gap(seen) >= gate(problem.dtype) for of in first.values() for seen in of)


def _moves(subject: Subject, problem: Problem) -> Iterator[Tensor]:
    """What every step of all trainings moves, all layers in one."""
    trial = Trial(subject, problem)
    for settings in trainings(trial):
        trained = trial.trained(_STEPS, settings)
        for step in range(_STEPS):
            yield torch.cat([x.flatten() for x in trained.move(step).values()])


def _all_moves(subject: Subject, problem: Problem) -> list[Tensor]:
    """None, where it cannot be trained."""
    try:
        return list(_moves(subject, problem))
    except Exception:  # whatever it was, there is nothing to compare
        return []


def _agree(given: Sequence[list[Tensor]], other: Subject, problems: Sequence[Problem]) -> bool:
    """On all problems but one in five, whose eigenvectors may not be determined."""
    pairs = [pair for pair in zip(given, problems, strict=True) if pair[0]]
    misfits = 0
    for moves, problem in pairs:
        misfits += not _fits(moves, other, problem)
        if 5 * misfits > len(pairs):
            return False
    return True


def _fits(given: Sequence[Tensor], other: Subject, problem: Problem) -> bool:
    """Up to the first step that differs: the other one is trained no further."""
    try:
        pairs = zip(given, _moves(other, problem), strict=True)
        return all(relative(one, move) <= FITS for one, move in pairs)
    except Exception:  # the mistake cannot be trained here
        return False
