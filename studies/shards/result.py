"""What a run found, as it is written to ``shards.toml`` and read from there."""

import json
from dataclasses import dataclass
from pathlib import Path

from studies import toml
from studies.shards.comparison import Compared

ROUNDINGS = 10  # up to so many eps, relative to the whole, two sums are equal to rounding
PINNED = Path(__file__).parent / "shards.toml"
HEAD = """\
# The last run of `python -m studies.shards`: one rank against several, on drawn problems.
#
# `samples` of each rank; `A`, `B`, `Lambda`: |X - Y| / |Y| over the eps of the dtype, in the worst
# layer, Lambda by one rank in the basis that the ranks used; `counts`, `same`: whether N and M are
# equal, and all ranks' operators, to the bit; `laws`: which hold of the ranks' operators, asked
# with all the data. `seconds` of an all_reduce, by megabytes; `solved`: seconds of an
# eigenproblem, by its size; `death`: seconds until the others hear of one.
"""


@dataclass(frozen=True)
class Result:
    """One run of the study.

    Attributes:
        date: of the run.
        versions: of torch and of Python.
        ranks: how many processes.
        problems: what came of each.
        seconds: {megabytes: of one all_reduce}, on one machine.
        solved: {d: seconds of an eigenproblem of this size, in float32, on one core}.
        death: seconds until the other ranks have an error, once a process has died.
    """

    date: str
    versions: str
    ranks: int
    problems: list[Compared]
    seconds: dict[float, float]
    solved: dict[int, float]
    death: float


def to_toml(found: Result) -> str:
    """The whole file."""
    lines = [HEAD, f'date = "{found.date}"', f'versions = "{found.versions}"']
    lines += [f"ranks = {found.ranks}", f"death = {found.death:.3g}", "", "[seconds]"]
    lines += [f'"{size:g}" = {seconds:.3g}' for size, seconds in found.seconds.items()]
    lines += ["", "[solved]"]
    lines += [f"{d} = {taken:.3g}" for d, taken in found.solved.items()]
    lines += ["", "[problems]", *map(_row, found.problems)]
    return "\n".join(lines) + "\n"


def from_toml(text: str) -> Result:
    """The run that a file tells of."""
    data = toml.loads(text)
    problems = [
        Compared(
            int(number),
            row["dtype"],
            tuple(row["samples"]),
            row["counts"],
            row["A"],
            row["B"],
            row["Lambda"],
            row["laws"],
            row["same"],
        )
        for number, row in data["problems"].items()
    ]
    seconds = {float(size): taken for size, taken in data["seconds"].items()}
    solved = {int(d): taken for d, taken in data["solved"].items()}
    return Result(
        data["date"], data["versions"], data["ranks"], problems, seconds, solved, data["death"]
    )


def told(found: Result) -> list[str]:
    """The rows of the page's table."""
    problems = found.problems
    rows = {
        "counts N and M equal": [p.counts for p in problems],
        "A and B equal to rounding": [max(p.A, p.B) < ROUNDINGS for p in problems],
        "Lambda equal to rounding, in the ranks' basis": [p.Lambda < ROUNDINGS for p in problems],
        "operators of all ranks equal to the bit": [p.same for p in problems],
    }
    for law in dict.fromkeys(law for p in problems for law in p.laws):
        rows[f"law: {law}"] = [p.laws[law] for p in problems if law in p.laws]
    return [f"| {what} | {sum(held)} of {len(held)} |" for what, held in rows.items()]


LATENCY, BANDWIDTH = 0.3e-3, 0.8e9  # seconds a step, bytes a second: of the page's formula


def of_seconds(found: Result) -> list[str]:
    """The rows of the page's table of all_reduces: MB, milliseconds measured and by formula."""
    k = found.ranks
    ring = {
        size: 2 * (k - 1) / k * size * 1e6 / BANDWIDTH + 2 * (k - 1) * LATENCY
        for size in found.seconds
    }
    return [
        f"| {size:g} | {1e3 * taken:.3g} | {1e3 * ring[size]:.3g} |"
        for size, taken in found.seconds.items()
    ]


def _row(p: Compared) -> str:
    laws = ", ".join(f'"{law}" = {json.dumps(held)}' for law, held in p.laws.items())
    return (
        f'{p.number} = {{ dtype = "{p.dtype}", samples = {list(p.samples)}, '
        f"counts = {json.dumps(p.counts)}, same = {json.dumps(p.same)}, A = {p.A:.3g}, "
        f"B = {p.B:.3g}, Lambda = {p.Lambda:.3g}, laws = {{ {laws} }} }}"
    )
