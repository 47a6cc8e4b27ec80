r"""Laws of one that draws labels for itself: right on average, as nearly as chance allows.

An answer is a mean over so many draws that an error of 10 % is noticed 99 times of 100; a right
subject is accused in at most one of 10^9 runs of the full profile, all these laws together
(``truth/drawn_labels.py``, ``subjects/drawn.py``). What no label can change is held to rounding.
"""

from collections.abc import Iterator
from math import exp

import torch

from ekfac_ref.conformance.laws.law import MARTENS, Lane, Law, law_of_a_trial
from ekfac_ref.conformance.subjects.drawn import FOR_EACH, output_factor
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.tolerance import LawBroken, block_scale, bounded, own_scale


def _by_chance(name: str, lane: Lane, forms: tuple[str, ...], statement: str) -> Law:
    """The surprise at these numbers of every answer, in units of the one that accuses."""

    @law_of_a_trial(
        name,
        "its expectation over the labels; Chernoff 1952",
        lane,
        measures=False,
        statement=statement,
    )
    def law(trial: Trial) -> Iterator[float]:
        question = trial.drawn.question
        if question is None:
            return
        answers = {(one.way, one.own.layer): one for one in trial.drawn.answers}
        for form in question.forms:
            if form.name not in forms:
                continue
            one = answers[form.way, form.title]
            X = one.matrix
            if form.way == "sampled_kfac":
                X = output_factor(X, oracle.factors(one.seen)[1])
            value = float((X * form.weight).sum())
            surprise = form.labels.surprise(value, question.draws, form.slack)
            if not surprise <= question.surprise:
                raise LawBroken(
                    f"{form.way}, layer {form.title!r}: {form.name} is "
                    f"{value / form.labels.mean:.3g} times its expectation over the labels, and is "
                    f"so far off in less than {exp(-question.surprise):.0e} of right answers "
                    f"({question.draws} samples, {FOR_EACH} draws each)"
                )
            yield surprise / question.surprise

    return law


@law_of_a_trial("sampled kfac", MARTENS, Lane.SAMPLED_KFAC, measures=False)
def has_the_input_factor(trial: Trial) -> Iterator[float]:
    """K = B (x) A for some B, whatever the labels"""
    for one in trial.drawn.answers:
        if one.way == "sampled_kfac":
            A = oracle.factors(one.seen)[1]
            residual = one.matrix - torch.kron(output_factor(one.matrix, A), A)
            scale = own_scale(one.matrix, block_scale(one.seen))
            yield bounded("K = B (x) A", residual, scale, one.seen)


DRAW_LAWS = (
    _by_chance(
        "sampled trace",
        Lane.SAMPLED,
        ("tr F",),
        "tr F, or tr E, of labels that it draws itself: the exact one as nearly as chance allows",
    ),
    _by_chance(
        "sampled forms",
        Lane.SAMPLED,
        ("v^T F v", "tr F (I (x) A)"),
        "v^T F v for random v, or tr E (I (x) A): the exact one as nearly as chance allows",
    ),
    _by_chance(
        "sampled factor",
        Lane.SAMPLED_KFAC,
        ("tr B", "w^T B w"),
        "tr B, w^T B w for random w, of K = B (x) A: the exact one as nearly as chance allows",
    ),
    has_the_input_factor,
)
