"""Many training runs on all cores, their curves in the order of the jobs."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context

from studies.training.run import Curve, Job, run

Done = Callable[[int, Curve], None]  # told the number of a job and its curve
RunAll = Callable[[Sequence[Job], Done], list[Curve]]  # the curves come in the jobs' order


@contextmanager
def all_cores() -> Iterator[RunAll]:
    """One process per core, one thread per process.

    Jobs start in order, so those that are to be compared in seconds should follow one another.
    """
    # A forked process would inherit the locks of torch's threads.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:

        def run_all(jobs: Sequence[Job], done: Done) -> list[Curve]:
            numbers = {pool.submit(run, job): number for number, job in enumerate(jobs)}
            curves: dict[int, Curve] = {}
            for future in as_completed(numbers):
                number = numbers[future]
                curves[number] = future.result()
                done(number, curves[number])
            return [curves[number] for number in range(len(jobs))]

        yield run_all
