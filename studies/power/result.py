"""What a run found, as a record and as the file ``power.toml``: the source of the pages."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ekfac_ref import conformance as ct
from studies import toml

PINNED = Path(__file__).parent / "power.toml"
_HEAD = """\
# The last run of `make power`.
#
# Of a mutant: `always` are the laws that noticed it on every set of problems, `sometimes` those
# that noticed it on some, with the seeds of these sets. On the sets after the first, only laws that
# noticed it before were asked. `needed` is the most problems, over the sets, until the first law
# noticed it; `smallest` is the smallest problem found on which that law did, as its layers, its
# samples, and the numbers in the [W | b] of its largest layer. What nothing noticed has none.
#
# `resolution` and `scale` are relative errors.
"""


@dataclass(frozen=True, order=True)
class Size:
    """Of a problem: layers, samples, and the numbers in the [W | b] of its largest layer.

    Layers come first: a problem with fewer of them is the one that is easier to read.
    """

    layers: int
    samples: int
    numbers: int


@dataclass(frozen=True)
class OneSet:
    """One mutant on one set of problems.

    Attributes:
        mutant: its name.
        seed: of the set.
        first: {law that noticed it: number of the first problem on which it did, from 1}.
        smallest: problem found on which the first of these laws notices it; None if none did.
    """

    mutant: str
    seed: int
    first: dict[str, int]
    smallest: Size | None


@dataclass(frozen=True)
class AllSets:
    """One mutant on all sets of problems.

    Attributes:
        laws: {law that noticed it: seeds of the sets on which it did}. On the sets after the first,
            only laws that noticed it before were asked.
        needed: the most problems, over the sets, until the first law noticed it; None if none did.
        smallest: problem found on which that law notices it; None if none did.
    """

    laws: dict[str, list[int]]
    needed: int | None
    smallest: Size | None


@dataclass(frozen=True)
class Power:
    """What a run found.

    Attributes:
        date: of the run, ISO.
        seeds: one set of problems for each.
        problems: in each set.
        resolution: {dtype: {law: the smallest relative error that it notices, median over
            problems}}; laws that are a matter of yes or no are left out.
        scale: {dtype: the smallest relative error of scale that laws of a mere matvec notice, on
            the problem where that is largest}.
        mutants: {name: what noticed it}.
    """

    date: str
    seeds: list[int]
    problems: int
    resolution: dict[str, dict[str, float]]
    scale: dict[str, float]
    mutants: dict[str, AllSets]


def over_all_sets(sets: Collection[OneSet]) -> AllSets:
    """One mutant: from what noticed it on each set to what noticed it on all of them."""
    laws: dict[str, list[int]] = {}
    for one in sets:
        for law in one.first:
            laws.setdefault(law, []).append(one.seed)
    needed = max((min(one.first.values()) for one in sets if one.first), default=None)
    smallest = min((one.smallest for one in sets if one.smallest), default=None)
    return AllSets(laws, needed, smallest)


def noticed_on_every_set(power: Power, laws: Collection[str]) -> list[str]:
    """Names of the wrong mutants that on each set were noticed by some law among these."""

    def sets(name: str) -> set[int]:
        return {s for law, seeds in power.mutants[name].laws.items() if law in laws for s in seeds}

    wrong = [mutant.name for mutant in ct.MUTANTS.values() if not mutant.proof]
    return [name for name in wrong if sets(name) == set(power.seeds)]


def pinned() -> Power:
    """The result that is committed, read from ``power.toml``."""
    return from_toml(PINNED.read_text())


def from_toml(text: str) -> Power:
    """The record, from the text that ``to_toml`` has made of it."""
    found = toml.loads(text)
    mutants = {name: _all_sets(row, found["seeds"]) for name, row in found["mutants"].items()}
    return Power(**{**found, "mutants": mutants})


def _all_sets(row: dict[str, Any], seeds: list[int]) -> AllSets:
    laws = dict.fromkeys(row.get("always", ()), seeds) | row.get("sometimes", {})
    smallest = Size(*row["smallest"]) if "smallest" in row else None
    return AllSets(laws, row.get("needed"), smallest)


def to_toml(power: Power) -> str:
    """The record as text, one line for every mutant and for every number."""
    lines = [
        _HEAD,
        f"date = {_value(power.date)}",
        f"seeds = {power.seeds}",
        f"problems = {power.problems}",
        *chain(*(_table(f"resolution.{dtype}", r) for dtype, r in power.resolution.items())),
        *_table("scale", power.scale),
        *_table("mutants", {name: _row(one, power.seeds) for name, one in power.mutants.items()}),
    ]
    return "\n".join(lines) + "\n"


def _row(one: AllSets, seeds: list[int]) -> dict[str, Any]:
    row = {
        "always": [law for law, mine in one.laws.items() if mine == seeds],
        "sometimes": {law: mine for law, mine in one.laws.items() if mine != seeds},
        "needed": one.needed,
        "smallest": (s := one.smallest) and [s.layers, s.samples, s.numbers],
    }
    return {key: value for key, value in row.items() if value}


def _table(name: str, rows: dict[str, Any]) -> Iterator[str]:
    yield from ("", f"[{name}]")
    yield from (f"{_key(key)} = {_value(value)}" for key, value in rows.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(key)} = {_value(v)}" for key, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, float):
        return repr(value)  # shortest that reads back the same; inf is inf in TOML too
    return json.dumps(value)  # strings and lists of them are written alike in TOML


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() else json.dumps(key)
