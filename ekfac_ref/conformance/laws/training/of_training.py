r"""Laws of an optimizer: the steps that it takes are those of the rules that it declares.

Every step is held against the closed form (``training/closed_form.py``) at the parameters at
which the subject was, so what went wrong in one step is not held against the next. Where
eigenvectors are not determined there is no one right step, and only ``descent`` is asked.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from ekfac_ref.conformance.declared.damping import Factored
from ekfac_ref.conformance.declared.training import ByCurvature, Hyperparameters
from ekfac_ref.conformance.laws.damped import largest_eigenvalue
from ekfac_ref.conformance.laws.law import ALGEBRA, DEFINITION, GEORGE, Lane, law_of_a_trial
from ekfac_ref.conformance.laws.training.step import (
    JudgedStep,
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
    """Delta_t = -lr (M_t + d I)^-1 g_t, with a new basis at the first step and every second one"""
    settings = settings_for(trial, refresh_every=_EVERY)
    yield from _as_declared("Delta_t = -lr P_t g_t", later_steps(trial, 3, settings), settings)


@law_of_a_trial("momentum", DEFINITION, Lane.TRAINING)
def has_momentum(trial: Trial) -> Iterator[float]:
    """Delta_2 = momentum Delta_1 - lr (M_2 + d I)^-1 g_2"""
    if not trial.subject.definition.training.has_momentum:
        return
    settings = settings_for(trial, momentum=_MOMENTUM)
    steps = later_steps(trial, 2, settings)
    yield from _as_declared("Delta_2 = momentum Delta_1 - lr P_2 g_2", steps, settings)


@law_of_a_trial("clip", "Ba et al. 2017, up to its constant", Lane.TRAINING)
def clips(trial: Trial) -> Iterator[float]:
    """Delta_1 = -nu lr P g, one nu for all layers, as declared; 1 where the step is short enough

    Asked of a clip at half of the step, and of one at twice the step, which changes nothing.
    """
    training = trial.subject.definition.training
    if training.clip is None:
        return
    plain = settings_for(trial)
    whole = first_steps(trial, plain)
    by_curvature = isinstance(training.clip, ByCurvature)
    size = terms = 0.0
    for one in whole:
        x = one.direction(plain.damping)
        if x is None:
            return
        Mx = one.curvature.times(one.curvature.matrix, x)
        size += float((x * Mx).sum()) / 2 if by_curvature else float((x * one.gradient).sum())
        length = float(x.norm())
        terms += length * (
            one.curvature.size * length if by_curvature else float(one.gradient.norm()) + one.scale
        )
    size, terms = plain.lr**2 * size, plain.lr**2 * terms
    if not size > terms * _LOST:
        return
    for part in (0.5, 2.0):
        settings = replace(plain, kl_clip=part**2 * size)
        nu = min(1.0, part)
        for one in first_steps(trial, settings):
            x = one.direction(settings.damping)
            if x is not None:
                # nu is off by as many roundings of its sum as that loses by cancelling.
                lost = replace(one, scale=one.scale + float(one.gradient.norm()) * terms / size)
                law = f"Delta_1 = -nu lr P g, nu = {nu:g}"
                yield lost.holds(law, -nu * settings.lr * x, x, settings)


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
