"""Ask three ranks and one of a hundred problems; ``shards.toml`` has what came of it."""

import platform
import sys
from datetime import date

import torch

from studies.shards.cluster import Raised, cluster
from studies.shards.comparison import compared
from studies.shards.result import PINNED, Result, to_toml, told
from studies.shards.timing import (
    all_reduce_seconds,
    eigenproblem_seconds,
    seconds_until_told_of_a_death,
)

RANKS, PROBLEMS, SEED = 3, 100, 0
MEGABYTES = (0.01, 0.1, 1.0, 10.0, 100.0)
SIZES = (512, 1024, 2048)


def main() -> None:
    """Write the file; two minutes on two cores."""
    found = []
    with cluster(RANKS) as ranks:
        for number in range(PROBLEMS):
            answers = ranks.ask(compared, SEED, PROBLEMS, number)
            if any(isinstance(answer, Raised) for answer in answers):
                raise RuntimeError(f"problem {number}: {answers}")
            found.append(answers[0])
            print(answers[0], file=sys.stderr, flush=True)
        seconds = {size: max(ranks.ask(all_reduce_seconds, size)) for size in MEGABYTES}
        solved = {d: max(ranks.ask(eigenproblem_seconds, d)) for d in SIZES}
        death = max(ranks.ask(seconds_until_told_of_a_death)[:-1])
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    result = Result(str(date.today()), versions, RANKS, found, seconds, solved, death)
    PINNED.write_text(to_toml(result))
    print("\n".join(told(result)))


if __name__ == "__main__":
    main()
