"""The smallest problem that breaks a law, as far as the time goes."""

import contextlib
import time
from collections.abc import Callable, Sequence
from random import Random

from hypothesis import Phase, find, settings
from hypothesis.errors import FlakyFailure, NoSuchExample

from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.common import with_common
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.draw import QUIET, problems_for
from ekfac_ref.conformance.problems.features import features
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.run.tally import Broken, said
from ekfac_ref.conformance.run.time_limit import TookTooLong, at_most
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem

_ANYWHERE = Conjunction()


def shrink(
    law: Law,
    subject: Subject,
    start: Broken,
    seconds: float,
    seed: int,
    small: Sequence[Written] = (),
    where: Conjunction = _ANYWHERE,
    passes: Callable[[BaseException], object] = lambda error: None,
) -> list[Broken]:
    """Problems that show how ``start`` is broken, one after the other as they are found.

    A smaller problem on which the law is broken by less, or otherwise, does not count
    (``Broken.shows``), nor one without the features that ``where`` asks for: that may show another
    mistake. ``passes`` is told of whatever else is raised meanwhile.

    If one of ``small``, where the search for another law has ended, is as short to read as
    ``start``, no others are looked for: one problem that breaks several laws is less to read than
    several.
    """
    end = time.monotonic() + seconds
    found: list[Broken] = []

    def breaks(problem: Problem) -> bool:
        left = end - time.monotonic()
        if left <= 0:
            raise TookTooLong  # Hypothesis lets it through: no more problems are drawn
        if where != _ANYWHERE and not where.holds(with_common(features(problem))):
            return False
        try:
            # A second more, for what ends by itself: alarms are for what does not.
            with at_most(left + 1.0):
                broken = said(law, Trial(subject, problem)).broken
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # another trouble than the one looked for
            passes(error)
            return False
        if broken is None or not broken.shows(start):
            return False
        found.append(broken)
        return True

    for other in small:
        with contextlib.suppress(TookTooLong):
            shortest = min(one.length for one in (start, *found))
            if breaks(other.rebuilt) and found[-1].length <= shortest:
                return found
    options = settings(QUIET, max_examples=200, phases=[Phase.generate, Phase.shrink])
    with contextlib.suppress(NoSuchExample, FlakyFailure, TookTooLong):  # flaky: cut short once
        find(problems_for(subject.abilities), breaks, settings=options, random=Random(seed))
    return found
