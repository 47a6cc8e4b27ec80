"""Smaller problems: found for one law, tried on the next before another is looked for."""

import torch
from torch import nn

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.problems.source import script
from ekfac_ref.conformance.run.check import Run
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.shrink import shrink
from ekfac_ref.conformance.run.tally import Tally
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.likelihoods import Gaussian
from ekfac_ref.question.problem import Problem

WRONG = MUTANTS["half-lambda"].subject


def broken(law: str) -> Tally:
    """On a problem of ordinary size."""
    tally = Tally(LAWS[law])
    for problem in draw_problems(WRONG.abilities, 11, 1):
        tally.ask(Trial(WRONG, problem))
    assert tally.problem is not None
    return tally


def test_the_problem_of_another_law_is_taken_if_it_breaks_this_one_too() -> None:
    trace, moments = broken("trace"), broken("moments")
    shrink(trace, WRONG, 2.0, 0)
    assert trace.problem is not None
    shrink(moments, WRONG, 2.0, 0, small=[trace.problem])
    assert moments.problem is trace.problem


def test_if_it_does_not_a_smaller_one_is_looked_for() -> None:
    tally = broken("trace")
    assert tally.problem is not None
    before = len(script(tally.problem, None, None))
    x = torch.zeros(1, 1).double()  # no gradient, and half of nothing is right
    silent = Problem(nn.Linear(1, 1, bias=False).double(), [(x, x)], Gaussian())
    shrink(tally, WRONG, 2.0, 0, small=[silent])
    assert tally.problem is not silent
    assert len(script(tally.problem, None, None)) < before


def test_a_report_reads_better_for_it() -> None:
    report = Run(WRONG, Profile("few", 6, 1.0)).report()
    shown = [v.problem for v in report.verdicts if v.broken]
    assert len(shown) > 4
    assert len({id(problem) for problem in shown}) <= 2
