"""Smaller problems: found for one law, tried on the next before another is looked for."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
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
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.likelihoods import Gaussian
from ekfac_ref.question.problem import Problem

WRONG = MUTANTS["half-lambda"].subject
SECONDS = 120.0  # the search ends by itself within one, where nothing else is done


def broken(law: str) -> Broken:
    """On the problem of ordinary size that is shortest to read."""
    tally = Tally(LAWS[law])
    for problem in draw_problems(WRONG.abilities, 11, 1):
        tally.ask(Trial(WRONG, problem))
    assert tally.broken is not None
    return tally.broken


def test_the_problem_of_another_law_is_taken_if_it_breaks_this_one_too() -> None:
    found = shrink(LAWS["trace"], WRONG, broken("trace"), SECONDS, 0)
    small = min(found, key=lambda one: one.length).problem
    (moments,) = shrink(LAWS["moments"], WRONG, broken("moments"), SECONDS, 0, small=[small])
    assert moments.problem.text == small.text


def test_if_it_does_not_a_smaller_one_is_looked_for() -> None:
    start = broken("trace")
    x = torch.zeros(1, 1).double()  # no gradient, and half of nothing is right
    silent = Problem(nn.Linear(1, 1, bias=False).double(), [(x, x)], Gaussian())
    found = shrink(LAWS["trace"], WRONG, start, SECONDS, 0, small=[Written.of(silent)])
    assert all(one.problem.rebuilt is not silent for one in found)
    assert min(one.length for one in found) < start.length
    assert all("tr E = tr F" in str(one.law_broken) for one in found)


def test_a_tally_keeps_the_shortest() -> None:
    start, tally = broken("trace"), Tally(LAWS["trace"])
    for found in (start, *shrink(LAWS["trace"], WRONG, start, SECONDS, 0), start):
        tally.keep(found)
    assert tally.broken is not None
    assert tally.broken.length < start.length
    assert tally.worst >= start.law_broken.ratio


def test_a_report_reads_better_for_it() -> None:
    report = Run(Here(WRONG), Profile("few", 6, 1.0)).report()
    shown = [v.problem for v in report.verdicts if v.broken]
    assert len(shown) > 4
    assert len({problem.text for problem in shown}) <= 2


def fault(ratio: float, dtype: torch.dtype = torch.float64, says: str = "tr E = tr F") -> Broken:
    return Broken(Written(""), LawBroken(says, ratio), torch.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("small", "drawn", "shows"),
    [
        (fault(3e14), fault(3e14), True),
        (fault(1e12), fault(3e14), True),
        (fault(1e5, torch.float32), fault(3e14), True),  # the same residual, in other roundings
        (fault(1e14), fault(1e5, torch.float32), True),
        (fault(150.0), fault(3e14), False),  # rounding in place of the mistake
        (fault(150.0, torch.float32), fault(3e14), False),
        (fault(nan), fault(3e14), False),
        (fault(inf), fault(3e14), False),
        (fault(3e14), fault(inf), False),
        (fault(inf), fault(inf), True),
        (fault(inf, says="f: '0': new"), fault(inf, says="f: rng: new"), False),
        (fault(inf, says="a '0': new"), fault(inf, says="a '12.3': new; rng: new"), True),
        (fault(inf, says="a '0': new; b: new"), fault(inf, says="a '12.3': new"), False),
    ],
)
def test_a_smaller_problem_has_to_be_as_broken(small: Broken, drawn: Broken, shows: bool) -> None:
    assert small.shows(drawn) is shows


def test_the_gravest_is_told_of_several_drawn_ones() -> None:
    """A short problem with a slight mistake hides no long one with a bad one, in either order."""
    short, long = (Written("short"), Written("a long problem"))
    slight = Broken(short, LawBroken("slight", 150.0), 2e-16)
    bad = Broken(long, LawBroken("bad", 3e14), 2e-16)
    for order in ([slight, bad], [bad, slight]):
        tally = Tally(LAWS["trace"])
        for one in order:
            tally.keep(one)
        assert tally.broken is bad
        assert tally.worst == 3e14


def test_shrinking_does_not_end_at_another_mistake() -> None:
    """Wrong by a factor where there is much to sum, by 1e-11 elsewhere, which is broken too."""

    def two_mistakes(problem: Problem) -> Any:
        found = MUTANTS["half-lambda"].subject.ekfac(problem)
        large = sum(p.numel() for p in problem.model.parameters()) > 12
        return {n: E if large else E.scaled(2 + 1e-9) for n, E in found.items()}

    drawn = replace(WRONG.abilities, dtypes=(torch.float64,))
    subject = Subject("two mistakes", two_mistakes, abilities=drawn)
    report = Run(Here(subject), Profile("few", 8, 2.0), laws=[LAWS["trace"]]).report()
    (verdict,) = report.verdicts
    assert verdict.problem is not None
    problem = verdict.problem.rebuilt
    assert sum(p.numel() for p in problem.model.parameters()) > 12
    found = LAWS["trace"].ask(Trial(subject, problem))
    with pytest.raises(LawBroken) as error:
        list(found)
    assert error.value.ratio * 1e3 >= verdict.worst
    assert str(error.value) == verdict.broken
