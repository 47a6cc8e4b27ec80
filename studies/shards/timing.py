"""How long an all_reduce takes, an eigenproblem, and until the others hear of a dead process."""

import os
import signal
import time

import torch
import torch.distributed as dist


def all_reduce_seconds(megabytes: float, times: int = 15) -> float:
    """The shortest of some all_reduces of float64 numbers, from a start that all ranks share."""
    numbers = torch.ones(max(1, int(megabytes * 1e6 / 8)), dtype=torch.float64)
    taken = []
    for _ in range(times):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(numbers)
        taken.append(time.perf_counter() - start)
    return min(taken)


def eigenproblem_seconds(d: int, times: int = 3) -> float:
    """The shortest of some solutions of one problem [d, d] in float32, on one core of rank 0."""
    rows = torch.randn(d, d)
    matrix, taken = rows.T @ rows, []
    for _ in range(times if dist.get_rank() == 0 else 0):
        start = time.perf_counter()
        torch.linalg.eigh(matrix)
        taken.append(time.perf_counter() - start)
    return min(taken, default=0.0)


def seconds_until_told_of_a_death() -> float:
    """The last rank kills itself; the others are in an all_reduce until gloo raises."""
    if dist.get_rank() == dist.get_world_size() - 1:
        os.kill(os.getpid(), signal.SIGKILL)
    start = time.perf_counter()
    try:
        dist.all_reduce(torch.ones(1000))
    except RuntimeError:
        return time.perf_counter() - start
    raise AssertionError("an all_reduce with a dead process has come to an end")
