"""A plugin for pytest: files in random order, and the tests of a file.

``pytest -p studies.numerics.shuffled`` with a seed in the environment variable SHUFFLED, which
workers of xdist have in common. Files stay together, or what a file sets up for all of its tests
would be set up for each.
"""

import os
from collections import defaultdict
from random import Random

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests into the order of the seed."""
    random = Random(os.environ["SHUFFLED"])
    files: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        files[str(item.path)].append(item)
    shuffled = sorted(files.values(), key=lambda _: random.random())
    for tests in shuffled:
        random.shuffle(tests)
    items[:] = [item for tests in shuffled for item in tests]
