"""Hypothesis profiles, set before any test is imported, and one thread per worker."""

import os

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

COMMON = {
    "deadline": None,  # torch warms up during the first examples
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("ci", max_examples=50, derandomize=True, **COMMON)
settings.register_profile("large", max_examples=2000, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
