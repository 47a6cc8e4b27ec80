"""Hypothesis profiles, set before any test is imported, and one thread per worker."""

import gc
import os
import random
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
if sys.platform == "linux":  # or gloo asks for the address of the host's name, which may have none
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
# Observations are kept in caches, a million objects: looking through all of them for garbage again
# and again takes a tenth of the time of a run.
gc.set_threshold(100_000, 50, 100)

COMMON = {
    "deadline": None,  # torch warms up during the first examples
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("ci", max_examples=12, derandomize=True, **COMMON)
settings.register_profile("large", max_examples=2000, **COMMON)
settings.register_profile("shapes", max_examples=3, derandomize=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    """Where ``-m shapes`` runs with annotations checked: few draws, since every call is checked.

    beartype looks at random items of a list, also of lists that strategies pass around.
    """
    if config.getoption("--jaxtyping-packages"):
        settings.load_profile("shapes")
        ignored = "ignore:Do not use the `random` module inside strategies"
        config.addinivalue_line("filterwarnings", ignored)


@pytest.fixture(autouse=True)
def _the_same_random_numbers_in_every_run() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
