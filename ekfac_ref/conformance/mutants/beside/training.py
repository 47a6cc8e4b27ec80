"""Mistakes of an optimizer from batch to batch, whose EKFAC of one batch is right."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from ekfac_ref.conformance.declared.averages import FromZero
from ekfac_ref.conformance.declared.training import Hyperparameters, Training
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.mutants.trainer import (
    CLIPPING,
    BlockName,
    History,
    Trainer,
    one_clip,
)
from ekfac_ref.conformance.training.closed_form import Rules
from ekfac_ref.conformance.training.steps import Optimize


def _with(**steps: object) -> Optimize:
    return replace(Trainer(), **steps).optimizer  # type: ignore[arg-type]


def _by_rules(**rules: object) -> Optimize:
    return _with(rules=replace(Rules(), **rules))  # type: ignore[arg-type]


def _swapped(training: Training, counts: Sequence[float], beta: float) -> tuple[float, float]:
    return training.average.parts(counts, 1 - beta)


def _uncorrected(training: Training, counts: Sequence[float], beta: float) -> tuple[float, float]:
    return FromZero().parts(counts, beta)


def _averaged(
    B: Tensor, A: Tensor, old: tuple[Tensor, Tensor] | None, kept: float
) -> tuple[Tensor, Tensor]:
    new = Rules().basis(B, A, old, kept)
    if old is None:
        return new
    Q_B, Q_A = (kept * x + (1 - kept) * y for x, y in zip(old, new, strict=True))
    return Q_B, Q_A


class _Kept:
    """One history for all trainings."""

    def __init__(self) -> None:
        self._history: History = {}

    def __call__(self) -> History:
        return self._history


def _clip_of(change: Callable[[Hyperparameters, float], float]) -> Optimize:
    """The sum under the root is another one."""

    def nu(settings: Hyperparameters, squares: dict[BlockName, float]) -> dict[BlockName, float]:
        return one_clip(settings, {block: change(settings, x) for block, x in squares.items()})

    return _with(nu=nu)


def _each_layer(
    settings: Hyperparameters, squares: dict[BlockName, float]
) -> dict[BlockName, float]:
    found: dict[BlockName, float] = {}
    for layer in dict.fromkeys(name for name, _ in squares):
        found |= one_clip(settings, {b: x for b, x in squares.items() if b[0] == layer})
    return found


_of_training = partial(
    Mutant,
    ekfac=CORRECT.ekfac,
    definition=CLIPPING,
    only="an optimizer over several updates",
)

UPDATES = (
    _of_training(
        name="beta-swapped",
        mistake="lets a running mean keep 1 - beta of what it has (right: beta)",
        story="beta m + (1 - beta) x and (1 - beta) m + beta x, each of which some libraries have "
        "under the name of decay.",
        laws=("running means",),
        optimizer=_by_rules(parts=_swapped),
    ),
    _of_training(
        name="no-bias-correction",
        mistake="starts running means from zero and does not correct for it (right: weights that "
        "add up to 1)",
        story="Adam's correction, left out: the first M is 1 - beta times too small, and the "
        "damping counts for more.",
        laws=("first step",),
        optimizer=_by_rules(parts=_uncorrected),
    ),
    _of_training(
        name="lambda-left-in-the-old-basis",
        mistake="keeps Lambda as it is when the basis is refreshed (right: re-expressed)",
        story="New eigenvectors, and a running mean of squares along the old ones.",
        laws=("running means",),
        optimizer=_by_rules(carried=lambda old, Q_B, Q_A, Lambda: Lambda),
    ),
    _of_training(
        name="eigenvectors-averaged",
        mistake="takes running means of eigenvectors (right: of the factors)",
        story="A mean of two orthogonal matrices is none, and signs are arbitrary.",
        laws=("running means",),
        optimizer=_by_rules(basis=_averaged),
    ),
    _of_training(
        name="refresh-a-step-off",
        mistake="refreshes the basis a step too early (right: at the first update and every so "
        "many after it)",
        story="A counter that is advanced before it is looked at.",
        laws=("refresh",),
        optimizer=_by_rules(due=lambda update, every: update == 0 or (update + 1) % every == 0),
    ),
    _of_training(
        name="clip-without-lr",
        mistake="measures the direction against the clip (right: the step, which is lr times it)",
        story="v^T M v for Delta^T M Delta: with a small lr, nearly every step is shortened.",
        laws=("clip",),
        optimizer=_clip_of(lambda settings, x: x / settings.lr**2),
    ),
    _of_training(
        name="clip-with-lr-once",
        mistake="has one lr in the sum under the clip's root (right: its square)",
        story="nu = sqrt(kl / (lr v^T M v)): the units of a loss, not of a divergence.",
        laws=("clip",),
        optimizer=_clip_of(lambda settings, x: x / settings.lr),
    ),
    _of_training(
        name="clip-with-lr-again",
        mistake="multiplies the square of the step by lr^2 under the clip's root (right: the step "
        "has its lr already)",
        story="lr^2 of the formula for a direction, applied to a step.",
        laws=("clip",),
        optimizer=_clip_of(lambda settings, x: x * settings.lr**2),
    ),
    _of_training(
        name="clip-per-layer",
        mistake="shortens every layer on its own (right: all by one number)",
        story="A loop over layers with the clip inside: the step turns, and is up to as many "
        "times too long as there are layers.",
        laws=("clip",),
        optimizer=_with(nu=_each_layer),
        only="an optimizer with a clip, two layers",
    ),
    _of_training(
        name="ascent",
        mistake="adds the step (right: subtracts it)",
        story="A log-likelihood for a loss, or a sign that is turned twice.",
        laws=("descent", "first step"),
        optimizer=_with(sign=1.0),
    ),
    _of_training(
        name="momentum-dampened",
        mistake="adds (1 - momentum) times the direction to the velocity (right: all of it)",
        story="A running mean for a velocity: torch's SGD has it as an option, dampening.",
        laws=("momentum",),
        optimizer=_with(velocity=lambda mu, before, x: mu * before + (1 - mu) * x),
    ),
    _of_training(
        name="running-means-of-the-run-before",
        mistake="goes on with the running means of another training (right: begins with none)",
        story="State in a class attribute, or in a default argument, which all instances share.",
        laws=("trained again",),
        optimizer=_with(history=_Kept()),
    ),
)
