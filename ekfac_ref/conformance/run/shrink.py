"""The smallest problem that breaks a law, as far as the time goes."""

import contextlib
import time
from collections.abc import Sequence
from random import Random

from hypothesis import Phase, find, settings
from hypothesis.errors import FlakyFailure, NoSuchExample

from ekfac_ref.conformance.problems.draw import QUIET, problems_for
from ekfac_ref.conformance.run.tally import Tally
from ekfac_ref.conformance.run.time_limit import Limit, TookTooLong, in_time
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem


def shrink(
    tally: Tally,
    subject: Subject,
    seconds: float,
    seed: int,
    limit: Limit = in_time,
    small: Sequence[Problem] = (),
) -> None:
    """The tally keeps whatever is shorter to read than what it has.

    If that is one of ``small``, where the search for another law has ended, it is not looked for
    any further: one problem that breaks several laws is less to read than several.
    """
    end = time.monotonic() + seconds

    def breaks(problem: Problem) -> bool:
        left = end - time.monotonic()
        if left <= 0:
            raise TookTooLong  # Hypothesis lets it through: no more problems are drawn
        try:
            # A second more, for what ends by itself: alarms are for what does not.
            with limit(left + 1.0, problem):
                list(tally.law.ask(Trial(subject, problem)))
        except LawBroken as error:
            tally.keep(error, problem)
            return True
        except KeyboardInterrupt:
            raise
        except BaseException:  # another trouble than the one looked for
            return False
        return False

    for problem in small:
        with contextlib.suppress(TookTooLong):
            if breaks(problem) and tally.problem is problem:
                return
    options = settings(QUIET, max_examples=200, phases=[Phase.generate, Phase.shrink])
    with contextlib.suppress(NoSuchExample, FlakyFailure, TookTooLong):  # flaky: cut short once
        find(problems_for(subject.abilities), breaks, settings=options, random=Random(seed))
