r"""Laws of an optimizer: the steps that it takes are those of the rules that it declares.

Every step is held against the closed form (``training/closed_form.py``) at the parameters at
which the subject was, so what went wrong in one step is not held against the next. Where
eigenvectors are not determined there is no one right step, and only ``descent`` is asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from ekfac_ref.conformance.declared.damping import Factored
from ekfac_ref.conformance.declared.training import ByCurvature, ByGradient, Hyperparameters
from ekfac_ref.conformance.laws.damped import largest_eigenvalue
from ekfac_ref.conformance.laws.law import ALGEBRA, DEFINITION, GEORGE, Lane, law_of_a_trial
from ekfac_ref.conformance.laws.training.step import (
    JudgedStep,
    all_steps,
    first_steps,
    later_steps,
    settings_for,
)
from ekfac_ref.conformance.problems import changed
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken, bounded

_MOMENTUM, _EVERY = 0.7, 2
_LOST = 1e-6  # of the sizes of its terms: what has cancelled to less says nothing of a direction


def _as_declared(
    law: str, steps: list[list[JudgedStep]], settings: Hyperparameters
) -> Iterator[float]:
    """Delta_t = momentum Delta_(t-1) - lr (M_t + damping I)^-1 g_t."""
    for of_block in steps:
        for one in of_block:
            x = one.direction(settings.damping)
            if x is not None:
                expected = settings.momentum * one.before - settings.lr * x
                yield one.holds(law, expected, x, settings)


@law_of_a_trial("first step", GEORGE, Lane.TRAINING)
def first_step(trial: Trial) -> Iterator[float]:
    """Delta_1 = -lr (M_1 + d I)^-1 g_1, by the first batch alone"""
    settings = settings_for(trial)
    yield from _as_declared("Delta_1 = -lr P g", [first_steps(trial, settings)], settings)


@law_of_a_trial("descent", ALGEBRA, Lane.TRAINING)
def descends(trial: Trial) -> Iterator[float]:
    """lr / (m + d) <= -<Delta_1, g> / <g, g> <= lr / d, m the largest eigenvalue of F, or of KFAC

    By factored damping, 0 <=.
    """
    settings = settings_for(trial)
    for one in first_steps(trial, settings):
        how = trial.subject.definition.damping
        square = float((one.gradient**2).sum())
        if not square > one.scale**2 * _LOST:
            continue
        m = largest_eigenvalue(one.seen, how)
        low = 0.0 if isinstance(how, Factored) else settings.lr / (m + settings.damping)
        high = settings.lr / settings.damping
        quotient = -(one.move * one.gradient).sum() / square
        beyond = torch.stack([low - quotient, quotient - high]).clamp(min=0).amax()
        size = high * (1 + one.curvature.size / settings.damping) + one.size / square**0.5
        yield bounded("lr / (m + d) <= -<Delta, g> / <g, g> <= lr / d", beyond, size, one.seen)


@law_of_a_trial("running means", GEORGE, Lane.TRAINING)
def running_means(trial: Trial) -> Iterator[float]:
    """Delta_t = -lr (M_t + d I)^-1 g_t, of running A, B and Lambda, a new basis every time"""
    settings = settings_for(trial)
    yield from _as_declared("Delta_t = -lr P_t g_t", later_steps(trial, 3, settings), settings)


@law_of_a_trial("refresh", GEORGE, Lane.TRAINING)
def refreshes(trial: Trial) -> Iterator[float]:
    """Delta_t = -lr (M_t + d I)^-1 g_t, with a new basis at the first step and every second one

    The fourth step has the basis of the third: a counter that nobody puts back shows there.
    """
    settings = settings_for(trial, refresh_every=_EVERY)
    yield from _as_declared("Delta_t = -lr P_t g_t", later_steps(trial, 4, settings), settings)


@law_of_a_trial("momentum", DEFINITION, Lane.TRAINING)
def has_momentum(trial: Trial) -> Iterator[float]:
    """Delta_2 = momentum Delta_1 - lr (M_2 + d I)^-1 g_2

    And Delta_1 is that of no momentum, which is not dampened.
    """
    if not trial.subject.definition.training.has_momentum:
        return
    settings = settings_for(trial, momentum=_MOMENTUM)
    steps = all_steps(trial, 2, settings)
    yield from _as_declared("Delta_t = momentum Delta_(t-1) - lr P_t g_t", steps, settings)


@law_of_a_trial("clip", "Ba et al. 2017, up to its constant", Lane.TRAINING)
def clips(trial: Trial) -> Iterator[float]:
    """Delta_1 = -nu lr P g, one nu for all layers, as declared; 1 where the step is short enough

    Asked of a clip at half of the step, and of one at twice the step, which changes nothing; and
    of the second step under the same clip, which has a nu of its own.
    """
    clip = trial.subject.definition.training.clip
    if clip is None:
        return
    plain = settings_for(trial)
    found = _to_clip(first_steps(trial, plain), clip, plain)
    if found is None:
        return
    for part in (0.5, 2.0):
        settings = replace(plain, kl_clip=part**2 * found[0])
        for t, update in enumerate(zip(*all_steps(trial, 2, settings), strict=True), 1):
            here = _to_clip(update, clip, settings)
            if here is None:
                break
            size, terms = here
            # The clip of the first step is exact, whatever of its size is rounding.
            nu = min(1.0, part if t == 1 else part * (found[0] / size) ** 0.5)
            for one in update:
                x = one.direction(settings.damping)
                if x is not None:
                    # nu is off by as many roundings of its sum as that loses by cancelling.
                    lost = replace(one, scale=one.scale + float(one.gradient.norm()) * terms / size)
                    law = f"Delta_{t} = -nu lr P g, nu = {nu:g}"
                    yield lost.holds(law, -nu * settings.lr * x, x, settings)


def _to_clip(
    update: Sequence[JudgedStep], clip: ByCurvature | ByGradient, settings: Hyperparameters
) -> tuple[float, float] | None:
    """What the clip bounds in one update of all blocks, and its terms; None where nobody knows."""
    size = terms = 0.0
    for one in update:
        x = one.direction(settings.damping)
        if x is None:
            return None
        Mx, length = one.curvature.times(one.curvature.matrix, x), float(x.norm())
        if isinstance(clip, ByCurvature):
            size += float((x * Mx).sum()) / 2
            terms += length**2 * one.curvature.size
        else:
            size += float((x * one.gradient).sum())
            terms += length * (float(one.gradient.norm()) + one.scale)
    if not size > terms * _LOST:
        return None
    return settings.lr**2 * size, settings.lr**2 * terms


@law_of_a_trial("trained again", DEFINITION, Lane.TRAINING, measures=False)
def trains_alike(trial: Trial) -> Iterator[float]:
    """the same training again, after another one: the same bits"""
    settings = settings_for(trial)
    first = trial.trained(3, settings)
    trial.about(changed.in_reverse(trial.problem)).trained(1, settings)
    again = trial.about(trial.problem).trained(3, settings)
    for name, x in first.values[-1].items():
        if not torch.equal(x, again.values[-1][name]):
            raise LawBroken(f"trained again: parameter {name!r} differs after three steps")
        yield 0.0


TRAINING_LAWS = (first_step, descends, running_means, refreshes, has_momentum, clips, trains_alike)
