r"""Laws of one that draws labels for itself: right on average, as nearly as chance allows.

An answer is a mean over so many draws that an error of F of 10 % is noticed 99 times of 100; a
right subject is accused in at most one of 10^9 runs of the full profile, all these laws together
(``subjects/drawn.py``, docs/laws.md). What no label can change is held to rounding, as ever.
"""

from collections.abc import Iterator
from math import exp

import torch

from ekfac_ref.conformance.laws.law import ALGEBRA, MARTENS, Lane, law_of_a_trial
from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.subjects.drawn import DRAWS, Form, Question, output_factor
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.tolerance import (
    LawBroken,
    block_scale,
    bounded,
    factor_scales,
    own_scale,
)

_CHANCE = "E over the labels is the exact Fisher; Chernoff 1952"


@law_of_a_trial("sampled trace", _CHANCE, Lane.SAMPLED, measures=False)
def sampled_trace(trial: Trial) -> Iterator[float]:
    """tr F^ = tr F as nearly as chance allows, over labels of the model's; tr E^ likewise

    An error of 10 % is noticed with probability 0.99.
    """
    yield from _by_chance(trial, ("sampled_fisher", "sampled_ekfac"), ("tr F",))


@law_of_a_trial("sampled forms", _CHANCE, Lane.SAMPLED, measures=False)
def sampled_forms(trial: Trial) -> Iterator[float]:
    """v^T F^ v = v^T F v for random v, tr E^ (I (x) A) = tr F (I (x) A), as chance allows

    An error of 10 % is noticed with probability 0.99.
    """
    names = ("v^T F v", "tr F (I (x) A)")
    yield from _by_chance(trial, ("sampled_fisher", "sampled_ekfac"), names)


@law_of_a_trial("sampled factor", _CHANCE, Lane.SAMPLED_KFAC, measures=False)
def sampled_factor(trial: Trial) -> Iterator[float]:
    """w^T B^ w = w^T B w for random w and tr B^ = tr B as chance allows, B^ that of K^ = B^ (x) A

    An error of 10 % is noticed with probability 0.99.
    """
    yield from _by_chance(trial, ("sampled_kfac",), ("tr B", "w^T B w"))


@law_of_a_trial("sampled kfac", MARTENS, Lane.SAMPLED_KFAC)
def has_the_input_factor(trial: Trial) -> Iterator[float]:
    """K^ = B^ (x) A for some B^, whatever the labels"""
    for one in _answers(trial, "sampled_kfac"):
        A = oracle.factors(one.seen)[1]
        B = output_factor(one.matrix, A)
        if B is not None:
            scale = own_scale(one.matrix, block_scale(one.seen))
            yield bounded("K = B (x) A", one.matrix - torch.kron(B, A), scale, one.seen)


@law_of_a_trial("sampled basis", ALGEBRA, Lane.SAMPLED_EKFAC)
def has_the_input_basis(trial: Trial) -> Iterator[float]:
    """E^ (I (x) A) = (I (x) A) E^, whatever the labels"""
    for one in _answers(trial, "sampled_ekfac"):
        E, (d_out, _) = one.matrix, one.shape
        right = torch.kron(torch.eye(d_out).double(), oracle.factors(one.seen)[1])
        scale = own_scale(E, block_scale(one.seen)) * factor_scales(one.seen)[1]
        yield bounded("[E, I (x) A] = 0", E @ right - right @ E, scale, one.seen)


def _answers(trial: Trial, way: str) -> list[Answered]:
    return [one for one in trial.drawn() if one.way == way]


def _by_chance(trial: Trial, ways: tuple[str, ...], names: tuple[str, ...]) -> Iterator[float]:
    """Every form of these: how unlikely it is, in units of how unlikely it would have to be."""
    question = trial.question
    if question is None:
        return
    found = {(one.way, one.own.layer): one for one in trial.drawn() if one.way in ways}
    for form in question.forms:
        one = found.get((form.way, form.title))
        if one is None or form.name not in names:
            continue
        X = (
            output_factor(one.matrix, oracle.factors(one.seen)[1])
            if form.way == "sampled_kfac"
            else one.matrix
        )
        if X is None:
            continue
        value = float((X * form.weight).sum())
        surprise = form.labels.surprise(value, question.draws, form.slack)
        if not surprise <= question.surprise:
            raise LawBroken(_said(trial, question, form, value))
        yield surprise / question.surprise


def _said(trial: Trial, question: Question, form: Form, value: float) -> str:
    way, times = form.way, value / form.labels.mean
    again = zip(trial.drawn(), trial.drawn(1), strict=True)
    same = all(torch.equal(one.matrix, other.matrix) for one, other in again if one.way == way)
    return (
        f"{way}, layer {form.title!r}: {form.name} is {times:.3g} times its expectation; chance "
        f"makes it so in less than {exp(-question.surprise):.0e} of right answers "
        f"({question.draws // DRAWS} samples, {DRAWS} draws of each)"
        + (
            "; it draws the same labels every time, or none: global generators are without effect"
            * same
        )
    )


DRAW_LAWS = (
    sampled_trace,
    sampled_forms,
    sampled_factor,
    has_the_input_factor,
    has_the_input_basis,
)
