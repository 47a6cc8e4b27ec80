"""One group of three processes for all tests of the folder: each takes seconds to start."""

from collections.abc import Iterator

import pytest

from studies.shards.cluster import Cluster, cluster


@pytest.fixture(scope="session")
def ranks() -> Iterator[Cluster]:
    with cluster(3) as started:
        yield started
