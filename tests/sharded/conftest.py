"""One group of three processes for all tests of the folder: each takes seconds to start."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from studies.shards.cluster import Cluster, cluster


@pytest.fixture(scope="session")
def ranks() -> Iterator[Cluster]:
    with cluster(3) as started:
        yield started


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of which this process is the only one."""
    where = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=where, rank=0, world_size=1)
    yield
    dist.destroy_process_group()
