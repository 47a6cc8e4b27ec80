"""The smallest problem that breaks a law, as far as the time goes."""

import contextlib
import time
from collections.abc import Sequence
from random import Random

from hypothesis import Phase, find, settings
from hypothesis.errors import FlakyFailure, NoSuchExample

from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.draw import QUIET, problems_for
from ekfac_ref.conformance.run.tally import Broken
from ekfac_ref.conformance.run.time_limit import Limit, TookTooLong, in_time
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem


def shrink(
    law: Law,
    subject: Subject,
    start: Broken,
    seconds: float,
    seed: int,
    limit: Limit = in_time,
    small: Sequence[Problem] = (),
) -> list[Broken]:
    """Problems that break the law, one after the other as they are found.

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
        try:
            # A second more, for what ends by itself: alarms are for what does not.
            with limit(left + 1.0, problem):
                list(law.ask(Trial(subject, problem)))
        except LawBroken as error:
            found.append(Broken(problem, error))
            return True
        except KeyboardInterrupt:
            raise
        except BaseException:  # another trouble than the one looked for
            return False
        return False

    for problem in small:
        with contextlib.suppress(TookTooLong):
            if breaks(problem) and found[-1].length <= min(one.length for one in (start, *found)):
                return found
    options = settings(QUIET, max_examples=200, phases=[Phase.generate, Phase.shrink])
    with contextlib.suppress(NoSuchExample, FlakyFailure, TookTooLong):  # flaky: cut short once
        find(problems_for(subject.abilities), breaks, settings=options, random=Random(seed))
    return found
