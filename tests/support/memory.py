"""How much memory a program needs, in a process of its own."""

import subprocess
import sys

import pytest

_MEASURING = """
import resource
import torch
import ekfac_ref as ek
from torch import nn
{prepared}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{measured}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
where_it_is_in_kilobytes = pytest.mark.skipif(
    sys.platform != "linux", reason="the unit of ru_maxrss is another elsewhere"
)


def megabytes_of(prepared: str, measured: str) -> float:
    """At the peak of what is measured, beyond what was needed to prepare it."""
    run = [sys.executable, "-c", _MEASURING.format(prepared=prepared, measured=measured)]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=300)
    return float(done.stdout)
