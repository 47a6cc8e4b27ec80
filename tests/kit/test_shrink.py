"""Smaller problems: found for one law, tried on the next before another is looked for."""

import torch
from torch import nn

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.run.shrink import shrink
from ekfac_ref.conformance.run.tally import Broken, Tally
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.likelihoods import Gaussian
from ekfac_ref.question.problem import Problem

WRONG = MUTANTS["half-lambda"].subject


def broken(law: str) -> Broken:
    """On the problem of ordinary size that is shortest to read."""
    tally = Tally(LAWS[law])
    for problem in draw_problems(WRONG.abilities, 11, 1):
        tally.ask(Trial(WRONG, problem))
    assert tally.broken is not None
    return tally.broken


def test_the_problem_of_another_law_is_taken_if_it_breaks_this_one_too() -> None:
    found = shrink(LAWS["trace"], WRONG, broken("trace"), 2.0, 0)
    small = min(found, key=lambda one: one.length).problem
    (moments,) = shrink(LAWS["moments"], WRONG, broken("moments"), 2.0, 0, small=[small])
    assert moments.problem.text == small.text


def test_if_it_does_not_a_smaller_one_is_looked_for() -> None:
    start = broken("trace")
    x = torch.zeros(1, 1).double()  # no gradient, and half of nothing is right
    silent = Problem(nn.Linear(1, 1, bias=False).double(), [(x, x)], Gaussian())
    found = shrink(LAWS["trace"], WRONG, start, 2.0, 0, small=[Written.of(silent)])
    assert all(one.problem.rebuilt is not silent for one in found)
    assert min(one.length for one in found) < start.length
    assert all("tr E = tr F" in str(one.law_broken) for one in found)


def test_a_tally_keeps_the_shortest() -> None:
    start, tally = broken("trace"), Tally(LAWS["trace"])
    for found in (start, *shrink(LAWS["trace"], WRONG, start, 2.0, 0), start):
        tally.keep(found)
    assert tally.broken is not None
    assert tally.broken.length < start.length
    assert tally.worst >= start.law_broken.ratio


def test_a_report_reads_better_for_it() -> None:
    report = Run(Here(WRONG), Profile("few", 6, 1.0)).report()
    shown = [v.problem for v in report.verdicts if v.broken]
    assert len(shown) > 4
    assert len({problem.text for problem in shown}) <= 2
