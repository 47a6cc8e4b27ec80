"""The suite under one numerics, in random order."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

from studies.numerics.numerics import Numerics


@dataclass(frozen=True)
class Suite:
    """How the suite went.

    Attributes:
        passed, failed: numbers of tests; what could not even be collected has failed.
        failures: names of those that failed.
        seconds: that it took.
    """

    passed: int
    failed: int
    failures: list[str]
    seconds: float


def run_suite(numerics: Numerics, order: int) -> Suite:
    """Run ``pytest -n 2`` in a process of its own; ``order`` is the seed of the order."""
    started = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "studies.numerics.shuffled"],
        env=numerics.in_environment(os.environ) | {"SHUFFLED": str(order)},
        capture_output=True,
        text=True,
        check=False,
    )
    return read(ran.stdout, ran.returncode, time.monotonic() - started)


def read(printed: str, code: int, seconds: float) -> Suite:
    """What pytest printed with ``-q``, in numbers. A run that ended otherwise counts as failed."""
    failures = re.findall(r"^(?:FAILED|ERROR) (\S+(?: \S*\])?)", printed, re.MULTILINE)
    counted = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|errors?)\b", printed)}
    failed = sum(n for what, n in counted.items() if what != "passed")
    if code and not failed:
        failed, failures = 1, [f"pytest ended with code {code}"]
    return Suite(counted.get("passed", 0), failed, failures, seconds)
