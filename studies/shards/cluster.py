"""A few processes on this machine that form one group and answer the same questions together."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import multiprocessing

GROUP_TIMEOUT = timedelta(minutes=5)  # of every collective


class Raised(NamedTuple):
    """An exception of a rank, as a text."""

    kind: str
    message: str


class Cluster:
    """``ask`` has all ranks call one function, and waits for all answers."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections

    def ask(self, function: Callable[..., Any], *arguments: Any, within: float = 60.0) -> list[Any]:
        """What each rank returns, or a Raised, also if it dies.

        A TimeoutError if one does not answer in time.

        The function must be one that a process can import by its name.
        """
        for connection in self._connections:
            connection.send((function, arguments))
        return [_answer(connection, within) for connection in self._connections]


@contextmanager
def cluster(size: int) -> Iterator[Cluster]:
    """Processes that are there until the block ends. They meet at a file: no port is opened."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        ends = [spawn.Pipe() for _ in range(size)]
        processes = [
            spawn.Process(target=_rank, args=(rank, size, store, theirs), daemon=True)
            for rank, (_, theirs) in enumerate(ends)
        ]
        for process, (_, theirs) in zip(processes, ends, strict=True):
            process.start()
            theirs.close()  # or the end of a process would not be seen
        try:
            started = Cluster([ours for ours, _ in ends])
            started.ask(dist.get_rank, within=GROUP_TIMEOUT.total_seconds())
            yield started
        finally:
            for process in processes:
                process.kill()
                process.join()


def _answer(connection: Connection, within: float) -> Any:
    if not connection.poll(within):
        raise TimeoutError(f"a rank has not answered within {within} s")
    try:
        return connection.recv()
    except EOFError:
        return Raised("EOFError", "the process has died")


def _rank(rank: int, size: int, store: str, questions: Connection) -> None:
    torch.set_num_threads(1)
    where = f"file://{store}"
    dist.init_process_group(
        "gloo", init_method=where, rank=rank, world_size=size, timeout=GROUP_TIMEOUT
    )
    while True:
        function, arguments = questions.recv()
        try:
            answer = function(*arguments)
        except Exception as error:
            answer = Raised(type(error).__name__, str(error))
        questions.send(answer)
